/* Makes three threads, the second under a fault; `PTHREAD ERRNO RAN` for each. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static void *body(void *ran)
{
    *(int *)ran = 1;
    return NULL;
}

int main(void)
{
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        int ran = 0;
        int error = pthread_create(&thread, NULL, body, &ran);
        if (!error)
            pthread_join(thread, NULL);
        printf("%s %d\n", error ? strerrorname_np(error) : "-", ran);
    }
    return 0;
}
