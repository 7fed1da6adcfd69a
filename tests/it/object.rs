//! The object store: the contract of `ObjectStore` on the embedded server and on one that we did not write,
//! the embedded server's own strictness, and what faults on the way become.

mod contract;
mod embedded;
mod faults;
mod journey;
mod moto;
mod options;
mod private;
mod probe;
mod signing;
