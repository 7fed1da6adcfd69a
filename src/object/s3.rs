//! The object store as S3 speaks it.
