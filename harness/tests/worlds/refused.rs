//! What the engine refuses, and how loudly.

use super::support::*;

use deadbeat::handmade::HOLDER;
use deadbeat::history::What;

#[test]
fn what_is_refused_is_told() {
    if is_missing("python3") {
        return;
    }
    let history = run(&trial(&["python3", &guest("refused.py")]));
    let expected = "io_uring_setup ENOSYS\nio_uring_setup ENOSYS\nfutex_waitv ENOSYS\noutside 2\n\
                    inside ENOSYS\nfolder ENOSYS\ncredentials plain\n";
    assert_eq!(output(&history), expected);
    let told: Vec<&str> = history
        .events
        .iter()
        .filter_map(|event| match &event.what {
            What::Note { role: HOLDER, text } => Some(text.as_str()),
            What::Trouble { why } => Some(why.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].starts_with("tries io_uring,") && told[1].starts_with("tries futex_waitv,"));
    // The lock may need this, so the run proves nothing.
    assert!(told[2].starts_with("holder passes a descriptor of") && told[2].contains("/lock over"));
}
