//! One file a story, each read top to bottom.
