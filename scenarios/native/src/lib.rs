//! The Rust operator as the command-line reference prints it, with what version 1.1 of the
//! crate needs: `register_operator!` is a macro with the type as its argument, an input has
//! metadata as well, the id of an output is a `&str`, and a value becomes an Arrow array by
//! `into_arrow`.
use dora_operator_api::{DoraOperator, DoraOutputSender, DoraStatus, Event, IntoArrow, register_operator};

register_operator!(MyOperator);

#[derive(Default)]
pub struct MyOperator {
    counter: u32,
}

impl DoraOperator for MyOperator {
    fn on_event(
        &mut self,
        event: &Event,
        output_sender: &mut DoraOutputSender,
    ) -> Result<DoraStatus, String> {
        match event {
            Event::Input { .. } => {
                self.counter += 1;
                output_sender.send("count", self.counter.into_arrow())?;
                Ok(DoraStatus::Continue)
            }
            Event::Stop => Ok(DoraStatus::Stop),
            _ => Ok(DoraStatus::Continue),
        }
    }
}
