// Waits of Go, and what its two clocks show.
package main

import (
	"context"
	"fmt"
	"time"
)

func wait(name string, wanted time.Duration, wait func(time.Duration)) {
	begun := time.Now()
	wait(wanted)
	now := time.Now()
	mono := now.Sub(begun).Milliseconds()
	real := now.Round(0).Sub(begun.Round(0)).Milliseconds()
	fmt.Println(name, wanted.Milliseconds(), real, mono, mono, real, "agree -")
}

func main() {
	wait("Sleep", 3*time.Second, time.Sleep)
	wait("After", 1500*time.Millisecond, func(d time.Duration) { <-time.After(d) })
	wait("Ticker", 4*time.Second, func(d time.Duration) {
		ticker := time.NewTicker(d / 4)
		for i := 0; i < 4; i++ {
			<-ticker.C
		}
		ticker.Stop()
	})
	wait("Context", 1200*time.Millisecond, func(d time.Duration) {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		<-ctx.Done()
	})
	fmt.Println("done")
}
