//! What each preset's numbers come to, by hand. The arithmetic of `Trl` is checked in `trl.rs`, that
//! of `Verl`, `VerlGspo` and `VerlCispo` in `verl.rs`.

use g2rpo_core::{BatchTotals, Preset, Ragged, Role, TokenStreams, policy_loss};

const LN_2: f64 = std::f64::consts::LN_2;

/// One-token rows of the given probabilities' logarithms: current, old, reference, sampler.
fn one_token_rows(rows: &[([f64; 4], f64)]) -> TokenStreams {
    let column = |i: usize| Ragged::from_rows(rows.iter().map(|(row, _)| [row[i]]));
    let roles = column(0).map(|_| Role::Own);
    TokenStreams::new(roles, column(0), rows.iter().map(|(_, a)| *a).collect())
        .and_then(|s| s.with_logp_old(column(1)))
        .and_then(|s| s.with_logp_ref(column(2)))
        .and_then(|s| s.with_logp_sampling(column(3)))
        .unwrap()
}

fn loss(preset: Preset, streams: &TokenStreams) -> (f64, Vec<f64>) {
    let config = preset.loss();
    let totals = BatchTotals::of(&streams.roles, None, &config).unwrap();
    let got = policy_loss(streams, &config, &totals).unwrap();
    (got.loss, got.grad_logp.values().to_vec())
}

fn advantages(preset: Preset, rewards: &[f64]) -> Vec<f64> {
    let rewards: Vec<_> = rewards.iter().copied().map(Some).collect();
    preset
        .advantages()
        .advantages(&rewards, &vec![0; rewards.len()], &[], None)
        .unwrap()
        .advantages
}

fn assert_close(got: f64, want: f64) {
    assert!(
        (got - want).abs() < 1e-12 * want.abs().max(1.0),
        "{got} and {want}"
    );
}

/// The numbers of NeMo-RL's own `test_clipped_pg_loss_dual_clip`: ratios 0.5, 1, 10, advantages 1,
/// −1, −4 and c = 3 give −0.5, 1 and 12.
#[test]
fn dual_clip_as_nemo_rl_tests_it() {
    let streams = one_token_rows(&[
        ([-1.0 - LN_2, -1.0, -1.0, -1.0], 1.0),
        ([-1.0, -1.0, -1.0, -1.0], -1.0),
        ([-3.0 + 10f64.ln(), -3.0, -3.0, -3.0], -4.0),
    ]);
    let (value, grad) = loss(Preset::Verl, &streams);
    assert_close(value, 12.5 / 3.0);
    assert_close(grad[0], -0.5 / 3.0);
    assert_close(grad[1], 1.0 / 3.0);
    assert_eq!(grad[2], 0.0);
}

/// TRL with vLLM: the sequence weight e^0.5 stays, e^1.5 > 3 is masked.
#[test]
fn trl_vllm() {
    let streams = one_token_rows(&[
        ([-1.0, -1.0, -1.0, -1.5], 1.0),
        ([-1.0, -1.0, -1.0, -2.5], 1.0),
    ]);
    let (value, grad) = loss(Preset::TrlVllm, &streams);
    assert_close(value, -0.5f64.exp() / 2.0);
    assert_close(grad[0], -0.5f64.exp() / 2.0);
    assert_eq!(grad[1], 0.0);
}

/// Ratio 2 is clipped to 1.272; the sampler weight e^1 is truncated to 2; KL 0.05·(e^d − d − 1)
/// comes on top, unweighted.
#[test]
fn open_instruct() {
    let d = 0.3f64;
    let streams = one_token_rows(&[([-1.0, -1.0 - LN_2, -1.0 + d, -2.0 - LN_2], 1.0)]);
    let (value, grad) = loss(Preset::OpenInstruct, &streams);
    let kl = d.exp() - d - 1.0;
    assert_close(value, -2.0 * 1.272 + 0.05 * kl);
    assert_close(grad[0], 0.05 * (1.0 - d.exp()));
    assert_eq!(
        advantages(Preset::OpenInstruct, &[1.0, 0.0, 0.5]),
        [0.5, -0.5, 0.0]
    );
}

/// Sum over tokens / (rows · 512); rewards centred, not scaled.
#[test]
fn dr_grpo() {
    let logp = Ragged::from_rows([vec![-1.0; 3], vec![-1.0; 1]]);
    let streams = TokenStreams::new(logp.map(|_| Role::Own), logp, vec![0.5, -0.5]).unwrap();
    let (value, grad) = loss(Preset::DrGrpo, &streams);
    assert_close(value, -(3.0 - 1.0) * 0.5 / 1024.0);
    assert_close(grad[3], 0.5 / 1024.0);
    assert_eq!(
        advantages(Preset::DrGrpo, &[1.0, 0.0, 0.0, 0.0]),
        [0.75, -0.25, -0.25, -0.25]
    );
}

/// Mean per sequence, then over sequences, with 0.04·k3 and its own gradient.
#[test]
fn deepseek_math_and_g2rpo_a() {
    use Role::{Guidance, Own};
    let d = -0.5f64;
    let logp = Ragged::from_rows([vec![-1.0, -1.0], vec![-1.0]]);
    let reference = logp.map(|x| x + d);
    let streams = TokenStreams::new(
        Ragged::from_rows([vec![Guidance, Own], vec![Own]]),
        logp,
        vec![1.0, -2.0],
    )
    .and_then(|s| s.with_logp_ref(reference))
    .unwrap();
    let kl = 0.04 * (d.exp() - d - 1.0);
    let slope = 0.04 * (1.0 - d.exp());
    // Guidance masked: each row is one own token.
    let (value, grad) = loss(Preset::DeepSeekMath, &streams);
    assert_close(value, (-1.0 + kl + 2.0 + kl) / 2.0);
    assert_eq!(grad[0], 0.0);
    assert_close(grad[1], (-1.0 + slope) / 2.0);
    // Guidance in the loss: the first row's weight is shared, 1/(|g| + |o|), KL on both.
    let (value, grad) = loss(Preset::G2rpoA, &streams);
    assert_close(value, (-1.0 + kl + 2.0 + kl) / 2.0);
    assert_close(grad[0], (-1.0 + slope) / 4.0);
    assert_close(grad[1], (-1.0 + slope) / 4.0);
    assert_close(grad[2], (2.0 + slope) / 2.0);
    for preset in [Preset::DeepSeekMath, Preset::G2rpoA] {
        let std = (0.5f64).sqrt();
        assert_close(advantages(preset, &[1.0, 0.0])[0], 0.5 / (std + 1e-4));
    }
}

/// Token mean with 0.01·k3, whose gradient carries the score-function term; leave-one-out mean and
/// standard deviation: for 1, 0, 0.5 the first member's others have mean 0.25 and std √0.125.
#[test]
fn nemo_rl() {
    let d = 0.4f64;
    let streams = one_token_rows(&[([-1.0, -1.0, -1.0 + d, -1.0], 0.0)]);
    let (value, grad) = loss(Preset::NemoRl, &streams);
    let kl = d.exp() - d - 1.0;
    assert_close(value, 0.01 * kl);
    assert_close(grad[0], 0.01 * (1.0 - d.exp() + kl));
    let got = advantages(Preset::NemoRl, &[1.0, 0.0, 0.5]);
    assert_close(got[0], 0.75 / (0.125f64.sqrt() + 1e-6));
    // Where the others are all equal the difference is not divided.
    assert_close(advantages(Preset::NemoRl, &[1.0, 0.0, 0.0])[0], 1.0);
}
