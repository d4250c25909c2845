//! Trains a low-rank adapter on a model folder and saves it for PEFT, and merged.
//!
//!     cargo run -p g2rpo-libtorch --example train_adapter -- MODEL_FOLDER OUT_FOLDER
//!
//! The data are a few made-up rows of ids, so any model will do; what matters is the path from a
//! checkpoint through `TorchLearner` to files that other programs open. Prints the rows and their
//! log-probabilities under the adapter as JSON, for `testdata/learner/check_peft.py`.

use std::path::Path;

use g2rpo_core::{Learner, Ragged, Scoring, Sequences, TokenGrads, WhichPolicy};
use g2rpo_libtorch::{
    DType, LearnerConfig, LoraConfig, TorchLearner, device, load_checkpoint, save_checkpoint,
};
use tch::Kind;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(out)) = (arguments.next(), arguments.next()) else {
        return Err("expected a model folder and an output folder".into());
    };
    let checkpoint = load_checkpoint(&model, Some(Kind::Float), device("auto")?)?;
    let vocab = checkpoint.config.vocab_size as u32;
    let config = LearnerConfig {
        lora: Some(LoraConfig {
            r: 4,
            lora_alpha: 6.0,
            target_modules: vec!["all-linear".into()],
            ..LoraConfig::default()
        }),
        ..LearnerConfig::default()
    };
    let mut learner = TorchLearner::new(&checkpoint.config, checkpoint.parameters, config)?;

    let row = |n: u32| {
        (0..8 + n)
            .map(move |t| (t * t + 3 * n + 1) % vocab)
            .collect::<Vec<_>>()
    };
    let sequences = Sequences::new(Ragged::from_rows((0..4).map(row)), vec![2; 4])?;
    let scoring = Scoring::default();
    for _ in 0..5 {
        // Maximum likelihood: every completion token's log-probability is to rise.
        learner.accumulate(&sequences, &scoring, &mut |outputs| {
            Ok(TokenGrads {
                logp: outputs.logp.map(|_| -1.0 / 32.0),
                entropy: None,
            })
        })?;
        learner.apply(1e-2)?;
    }

    let out = Path::new(&out);
    let adapter = learner.adapter().ok_or("there is no adapter")?;
    adapter.save(out.join("adapter"), Some(&model))?;
    save_checkpoint(
        out.join("merged"),
        &checkpoint.config,
        &learner.merged()?,
        DType::F32,
        None,
    )?;
    let logps = (learner.token_logps(&sequences, WhichPolicy::Current, &scoring))?.logp;
    let report = serde_json::json!({
        "rows": sequences.tokens().rows().collect::<Vec<_>>(),
        "prompt_lens": sequences.prompt_lens(),
        "logps": logps.rows().collect::<Vec<_>>(),
    });
    println!("{report}");
    Ok(())
}
