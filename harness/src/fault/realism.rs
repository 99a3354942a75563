//! Which errno a local file system really gives for which operation.
