//! Places pods on nodes: reflector, immutable snapshot, filter, score, bind.
