//! Runs Linux containers from OCI bundles, single-threaded from start to end.
