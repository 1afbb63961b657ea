"""What is minimised: `(model, batch, draws) -> (loss per example, metrics per example)`."""
