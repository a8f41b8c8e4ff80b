//! Where the replicas of a new chunk go.
