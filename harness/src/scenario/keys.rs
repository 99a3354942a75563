//! The keys of every table of both file formats: what the parser knows, and what the schemas are
//! held to.

pub(super) const SCENARIO: &[&str] = &[
    "format", "title", "why", "covers", "tags", "needs", "cast", "world", "fault", "event",
    "expect",
];
pub(super) const CAST: &[&str] = &["holder", "contender"];
pub(super) const HOLDER: &[&str] = &[
    "starts",
    "hold",
    "patience",
    "acquires",
    "stall",
    "again",
    "stale-after",
    "beat-every",
    "variant",
];
pub(super) const CONTENDER: &[&str] = &[
    "count",
    "starts",
    "hold",
    "patience",
    "acquires",
    "stall",
    "again",
    "stale-after",
    "beat-every",
    "variant",
];
pub(super) const WORLD: &[&str] =
    &["space", "statfs", "user", "users", "pids", "hostname", "clock", "files"];
pub(super) const SPACE: &[&str] = &["free", "inodes"];
pub(super) const FILES: &[&str] = &["mtime-granularity", "attr-cache", "estale", "links"];
pub(super) const FAULT: &[&str] = &[
    "who", "on", "op", "error", "apply", "ignore", "hang", "delay", "short", "torn", "kill",
    "pause", "from", "until", "times", "realism",
];
/// The keys that say what a fault does. Each fault has exactly one.
pub(super) const FAULT_KINDS: &[&str] =
    &["error", "ignore", "hang", "delay", "short", "torn", "kill", "pause"];
pub(super) const EVENT: &[&str] = &["at", "do"];
pub(super) const EXPECT: &[&str] = &["exclusion", "holder", "warning", "takeover"];
pub(super) const TAKEOVER: &[&str] = &["after", "within"];

pub(super) const SUBJECT: &[&str] = &[
    "format",
    "name",
    "version",
    "summary",
    "setup",
    "command",
    "lock",
    "timing",
    "claims",
    "known-gap",
    "variant",
];
pub(super) const SETUP: &[&str] = &["needs", "argv"];
pub(super) const COMMAND: &[&str] = &["argv", "env", "plays", "holder", "contender"];
pub(super) const OVERLAY: &[&str] = &["argv", "env"];
pub(super) const LOCK: &[&str] = &["path", "heartbeat", "name", "lacks"];
pub(super) const TIMING: &[&str] = &["stale-after", "beat-every", "acquire-timeout", "unit"];
pub(super) const CLAIMS: &[&str] =
    &["exclusion", "on-heartbeat-failure", "dead-owner-takeover", "warns"];
pub(super) const KNOWN_GAP: &[&str] = &["scenario", "findings", "reason", "issue", "review-by"];
pub(super) const VARIANT: &[&str] =
    &["env", "command", "lock", "timing", "claims", "known-gap", "planted"];
pub(super) const PLANTED: &[&str] = &["class", "base", "bug", "seen", "canary"];
pub(super) const CANARY: &[&str] = &["scenario", "shows", "real-time"];
