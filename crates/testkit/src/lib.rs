//! Development only: worlds, clocks, an in-process cluster, fault injection, leak counting.
