//! From an operation to a ruling: which fault hits it, if any.
