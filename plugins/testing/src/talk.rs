//! What the channel tells its host of a message's text.

use anklang_plugin_sdk::{Level, Message, faults};

use crate::Testing;

impl Testing {
    /// Logs a fixed line, with fields that are not.
    pub(crate) fn log(&self, argument: &str, message: &Message) {
        let fields = [
            ("text", argument.to_owned()),
            ("account", self.account.clone()),
            ("message_id", message.message_id.clone()),
        ];
        self.host.log(Level::Warn, "as told", &fields);
    }

    /// The same, and says what it likes in lines and spans, as plugins without the SDK may.
    pub(crate) fn blab(&self, argument: &str, message: &Message) {
        self.log(argument, message);
        let id = &message.message_id;
        let said = argument.to_owned();
        let line = [("message_id", said.clone()), (argument, said.clone())];
        faults::say(&self.host, Level::Error, &format!("told of {said}"), &line);
        let line = [("message_id", id.clone())];
        faults::say(&self.host, Level::Info, &said, &line);
        let span = [
            ("message_ids", format!("{said},{id}")),
            ("text", said.clone()),
            (argument, id.clone()),
        ];
        faults::trace(&self.host, &format!("send to {said}"), &span);
    }
}
