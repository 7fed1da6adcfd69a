//! What may be fetched: schemes, hosts and addresses.
