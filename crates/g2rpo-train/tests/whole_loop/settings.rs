//! Every setting, set through the loop to something else, changes what comes out or is refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use g2rpo_guidance::{ControllerConfig, Method};
use g2rpo_train::{LrSchedule, TrainerConfig};
use serde_json::{Value, json};

use crate::probe::{Asked, MAX_LEN, Probe, config, dataset, is_right, run_with, tasks, writes};

/// Lengths, successes and truncations of every kind.
pub(crate) fn lively(asked: &Asked) -> Vec<u32> {
    let (member, step) = (u64::from(asked.member), asked.step);
    // More of them in every second step, for controllers to see.
    let of_four = 1 + u64::from(asked.help > 3) + step % 2;
    let right = (member * 7 + asked.task as u64 * 3 + step * 5) % 4 < of_four;
    let mut answer = writes(asked.member, right);
    let more = if member == 5 { 30 } else { member % 3 + step };
    answer.extend((0..more).map(|i| u32::from(b'a' + (i % 7) as u8)));
    answer
}

/// Rows, parameters and numbers of a run, or what it was refused with.
pub(crate) fn outcome(method: &Method, config: TrainerConfig) -> Result<String, String> {
    let easy_first = |mut task: g2rpo_rollout::Task| {
        task.solution = (task.id != 1).then_some(task.solution).flatten();
        task
    };
    let data = dataset(tasks().into_iter().map(easy_first).collect());
    let mut probe = Probe::new(Some(Arc::new(lively))).warmed();
    probe.rounding = 0.03;
    let run =
        run_with(method, &data, &probe, is_right, config, 4, |t| t).map_err(|e| e.to_string())?;
    let mut seen = format!("{:?}\n", run.table);
    for report in &run.reports {
        let row = report.row();
        let numbers = row
            .iter()
            .filter(|(name, _)| !name.contains("time") && !name.contains("per_second"));
        seen += &format!("{:?}\n{:?}\n", report.rows, numbers.collect::<Vec<_>>());
    }
    Ok(seen)
}

/// Several updates of each batch, at a rate that moves ratios out of every clip range.
pub(crate) fn busy() -> TrainerConfig {
    let mut config = config();
    config.update.num_iterations = 2;
    config.update.steps_per_generation = 2;
    config.schedule = LrSchedule::constant(30.0);
    config
}

pub(crate) fn apply(method: Method, settings: &Value) -> Method {
    let settings = settings.as_object().unwrap();
    // Sections first, so that what is in them is not lost again.
    settings.iter().fold(method, |m, (key, value)| {
        m.set(key, value.clone())
            .unwrap_or_else(|e| panic!("{key}: {e}"))
    })
}

pub(crate) fn base() -> Method {
    let target = Method::preset("target", 4).unwrap();
    apply(
        target,
        &json!({"max_completion_length": MAX_LEN, "cutter.unit": "token"}),
    )
}

/// Sets `field` of the section at `path`, on top of `base`, and wants to see a difference.
pub(crate) fn check_section(path: &str, base_settings: &Value, fields: &[(&str, Value, Value)]) {
    let start = apply(base(), base_settings);
    let json = serde_json::to_value(&start).unwrap();
    let section = json
        .pointer(&format!("/{}", path.replace('.', "/")))
        .unwrap();
    let known: BTreeSet<&str> = (section.as_object().unwrap().keys())
        .map(String::as_str)
        .filter(|name| *name != "kind")
        .collect();
    let listed: BTreeSet<&str> = fields.iter().map(|f| f.0).collect();
    assert_eq!(listed, known, "{path}: each setting has an entry");
    let mut idle = Vec::new();
    for (field, on_top, value) in fields {
        let before = apply(start.clone(), on_top);
        let key = format!("{path}.{field}");
        let after = before.clone().set(&key, value.clone()).unwrap();
        assert_ne!(before, after, "{key} = {value} is what it was");
        let mut config = busy();
        if key == "controller.decay" && matches!(before.controller, ControllerConfig::Bisection(_))
        {
            // What a task starts from shows where others were met before it.
            config.prompts_per_step = 2;
        }
        let expected = outcome(&before, config.clone()).unwrap_or_else(|e| panic!("{key}: {e}"));
        match outcome(&after, config.clone()) {
            Ok(got) if got == expected => idle.push(format!("{key} = {value}")),
            Ok(_) => {}
            Err(e) => assert!(!e.contains('\n'), "{key}: {e}"),
        }
    }
    assert!(idle.is_empty(), "without effect: {idle:?}");
}

pub(crate) fn none() -> Value {
    json!({})
}

#[test]
fn loss() {
    let of = |loss_type: &str| json!({"loss.loss_type": loss_type});
    let kl = json!({"loss.beta": 0.5});
    check_section(
        "loss",
        &json!({"guidance_token_loss": "same_advantage"}),
        &[
            ("loss_type", none(), json!("grpo")),
            ("aggregation", none(), json!("sequence_sum")),
            ("importance_sampling_level", none(), json!("sequence")),
            ("epsilon", none(), json!(0.01)),
            ("epsilon_high", none(), json!(0.01)),
            ("delta", none(), json!(1.01)),
            ("dual_clip", none(), json!(1.01)),
            ("cispo_clip", of("cispo"), json!("around_one")),
            ("log_ratio_clamp", none(), json!([-0.01, 0.01])),
            ("sapo_temperature_pos", of("sapo"), json!(0.5)),
            ("sapo_temperature_neg", of("sapo"), json!(0.5)),
            ("vespo_k_pos", of("vespo"), json!(1.0)),
            ("vespo_lambda_pos", of("vespo"), json!(1.0)),
            ("vespo_k_neg", of("vespo"), json!(1.0)),
            ("vespo_lambda_neg", of("vespo"), json!(1.0)),
            (
                "dppo_divergence",
                json!({"loss.loss_type": "dppo", "loss.epsilon": 0.02}),
                json!("binary_kl"),
            ),
            ("beta", none(), json!(0.5)),
            ("kl_estimator", kl.clone(), json!("k1")),
            (
                "kl_gradient",
                json!({"loss.beta": 0.5, "loss.use_bias_correction_kl": false}),
                json!("k2"),
            ),
            ("kl_placement", kl.clone(), json!("reward")),
            ("use_bias_correction_kl", kl.clone(), json!(false)),
            ("kl_log_ratio_clamp", kl.clone(), json!(0.01)),
            ("kl_clamp", kl, json!(0.001)),
            ("guidance_token_loss", none(), json!("masked")),
            ("length_normalizer", none(), json!("own")),
            ("max_completion_length", none(), json!(12)),
            ("mask_truncated_completions", none(), json!(true)),
            ("off_policy_mask_threshold", none(), json!(-100.0)),
            ("top_entropy_quantile", none(), json!(0.5)),
            ("entropy_coef", none(), json!(0.1)),
            ("importance_sampling_correction", none(), json!({})),
        ],
    );
}

#[test]
fn advantages() {
    check_section(
        "advantages",
        &none(),
        &[
            ("baseline", none(), json!("leave_one_out")),
            ("scale", none(), json!("none")),
            ("eps", none(), json!(0.5)),
            ("ddof", none(), json!(0)),
            ("strata", none(), json!("split")),
            // The only guided member of its group.
            (
                "singleton",
                json!({"advantages.strata": "split", "selector.alpha": 0.125}),
                json!("reward"),
            ),
        ],
    );
}
