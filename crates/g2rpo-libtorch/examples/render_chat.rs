//! Renders conversations for `testdata/libtorch/check_chat.py`, which compares them with
//! transformers: an array of cases in JSON on standard input, an array of texts on standard output,
//! `null` where rendering failed.

use std::collections::BTreeMap;

use g2rpo_libtorch::{ChatOptions, ChatTemplate, OrderedJson};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Case {
    name: String,
    template: String,
    special_tokens: BTreeMap<String, String>,
    messages: Vec<OrderedJson>,
    tools: Option<OrderedJson>,
    variables: BTreeMap<String, Value>,
    add_generation_prompt: bool,
    continue_final_message: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cases: Vec<Case> = serde_json::from_reader(std::io::stdin())?;
    let mut texts = Vec::with_capacity(cases.len());
    for case in cases {
        let options = ChatOptions {
            add_generation_prompt: case.add_generation_prompt,
            continue_final_message: case.continue_final_message,
            tools: case.tools,
            variables: case.variables,
        };
        let template = ChatTemplate::new(case.template, case.special_tokens)?;
        let text = template.render(&case.messages, &options);
        if let Err(error) = &text {
            eprintln!("{}: {error}", case.name);
        }
        texts.push(text.ok());
    }
    println!("{}", serde_json::to_string(&texts)?);
    Ok(())
}
