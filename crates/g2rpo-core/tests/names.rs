//! The names of settings, as text without any feature.

use g2rpo_core::{
    Aggregation, CispoClip, DppoDivergence, Error, ImportanceSamplingLevel, KlEstimator,
    KlGradient, KlPlacement, LengthNormalizer, LossType, MismatchLevel, MultiObjectiveAggregation,
    OutOfRange, Preset, Scale, Singleton, Strata,
};
use std::fmt::{Debug, Display};
use std::str::FromStr;

fn there_and_back<T>(all: &[T], names: &str)
where
    T: Display + FromStr<Err = Error> + PartialEq + Debug + Copy,
{
    let written: Vec<String> = all.iter().map(T::to_string).collect();
    assert_eq!(written.join(" "), names);
    for (value, name) in all.iter().zip(&written) {
        assert_eq!(name.parse::<T>().as_ref(), Ok(value));
    }
    let err = "Nonsense".parse::<T>().unwrap_err().to_string();
    assert!(err.ends_with(&format!("`Nonsense` is none of {}", written.join(", "))));
}

#[test]
fn every_name() {
    there_and_back(
        LossType::ALL,
        "grpo bnpo dr_grpo dapo cispo luspo sapo vespo gmpo reinforce dppo",
    );
    there_and_back(
        Aggregation::ALL,
        "sequence_mean token_mean constant_length sequence_sum",
    );
    there_and_back(
        ImportanceSamplingLevel::ALL,
        "token sequence sequence_token",
    );
    there_and_back(CispoClip::ALL, "absolute around_one");
    there_and_back(DppoDivergence::ALL, "total_variation binary_kl");
    there_and_back(LengthNormalizer::ALL, "in_loss own completion");
    there_and_back(MismatchLevel::ALL, "token sequence_sum sequence_mean");
    there_and_back(OutOfRange::ALL, "truncate mask");
    there_and_back(KlEstimator::ALL, "k1 k2 k3 abs");
    there_and_back(KlGradient::ALL, "value k2 score_function");
    there_and_back(KlPlacement::ALL, "loss reward");
    there_and_back(
        Scale::ALL,
        "none group_std batch_std leave_one_out_std group_mean whiten",
    );
    there_and_back(Strata::ALL, "joint split unguided_mean");
    there_and_back(Singleton::ALL, "zero reward");
    there_and_back(
        MultiObjectiveAggregation::ALL,
        "sum_then_normalize normalize_then_sum",
    );
    there_and_back(
        Preset::ALL,
        "trl trl-vllm verl verl-gspo verl-cispo open-instruct dr-grpo deep-seek-math nemo-rl g2rpo-a",
    );
}

#[test]
fn a_name_that_is_none_is_refused_with_those_there_are() {
    let err = "gpro".parse::<LossType>().unwrap_err();
    assert_eq!(
        err.to_string(),
        "loss_type: `gpro` is none of grpo, bnpo, dr_grpo, dapo, cispo, luspo, sapo, vespo, gmpo, reinforce, dppo"
    );
    // Padded like other text.
    assert_eq!(format!("{:>6}", LossType::Dapo), "  dapo");
}
