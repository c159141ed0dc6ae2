//! Images: pull, push, content store, unpack, overlayfs, pack.
