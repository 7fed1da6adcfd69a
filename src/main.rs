//! The `harvester` command.

fn main() {
    todo!()
}
