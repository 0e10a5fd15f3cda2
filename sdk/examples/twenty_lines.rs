//! A whole policy. `cargo build -p wharf-sdk --example twenty_lines --target wasm32-wasip2` makes a plugin of it.
use wharf_sdk::prelude::*;

wharf_sdk::config! {
    /// Lets images through that have few enough bad findings.
    pub struct Limits {
        /// How many findings of severity high or worse an image may have.
        max_high: u32 = 0,
    }
}

fn judge(limits: &Limits, image: &Image) -> Judgement {
    image.scanned()?; // no data is never clean: this holds an image that was not scanned
    let high = image.findings().at_least(Severity::High).count();
    if high > limits.max_high {
        return Ok(reject(
            "too-many-high",
            format!("{high} findings are high or worse, {} may be", limits.max_high),
        ));
    }
    Ok(approve())
}

wharf_sdk::policy! { name: "few-highs", description: "Few bad findings", config: Limits, evaluate: judge }
