//! Laws of the chunk store: byte formats of replica file and intent journal, and the rules by which they are recovered.
