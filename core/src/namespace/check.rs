//! What holds for every state: used by tests after every step, by the simulator, and by fsck.
