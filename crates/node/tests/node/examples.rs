//! The examples do what they say.

#[path = "../../examples/chat.rs"]
mod chat;
#[path = "../../examples/transfer.rs"]
mod transfer;

#[test]
fn a_chat_hops_between_two_devices() {
    chat::main().unwrap();
}

#[test]
fn a_transfer_survives_its_server() {
    transfer::main().unwrap();
}
