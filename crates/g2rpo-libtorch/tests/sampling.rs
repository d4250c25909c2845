//! What the engine samples: the same tokens whatever the company, from the distribution that the
//! model and the filters say.

use g2rpo_libtorch::{
    Decoder, DecoderConfig, EngineConfig, Error, HfTokenizer, TokenizerConfig, TorchEngine,
    init_parameters,
};
use g2rpo_rollout::{Completion, Request, RolloutEngine, RolloutKey, SamplingParams, Stop};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// A batch changes the rounding of matrix products and nothing else.
const LOGP_TOLERANCE: f32 = 1e-5;

fn decoder() -> Decoder {
    decoder_of(Kind::Float)
}

fn decoder_of(kind: Kind) -> Decoder {
    // Threads that wait for one another cost more than tiny matrices gain from them.
    tch::set_num_threads(1);
    let mut config = DecoderConfig::tiny_qwen3(120, 32, 2, 4, 2);
    // Wide enough that distributions are far from uniform.
    config.initializer_range = 0.2;
    let parameters = init_parameters(&config, 5, kind, Device::Cpu).unwrap();
    Decoder::new(&config, &parameters).unwrap()
}

fn key(group: u32, member: u32) -> RolloutKey {
    RolloutKey {
        run: 11,
        step: 3,
        group,
        member,
    }
}

/// Eight groups of eight with prompts of unequal length; the first half of each group is guided,
/// two by two alike. Limits differ, so that rows end at different times.
fn requests() -> Vec<Request> {
    (0..64u32)
        .map(|i| {
            let (group, member) = (i / 8, i % 8);
            let guidance =
                (0..(member / 2 + 1) * u32::from(member < 4)).map(|t| (t * 13 + group) % 120);
            Request {
                prompt: (0..3 + 5 * group)
                    .map(|t| (t * t + 7 * group + 1) % 120)
                    .collect(),
                guidance: guidance.collect(),
                key: key(group, member),
                max_new_tokens: 4 + (i as usize * 5) % 29,
            }
        })
        .collect()
}

fn params() -> SamplingParams {
    SamplingParams {
        stop_token_ids: vec![7, 8],
        ..SamplingParams::default()
    }
}

/// How often two runs may differ by a draw that falls within rounding of a boundary.
#[derive(Default)]
struct Excused(usize);

/// Checks that two completions of a request are the same, or part where the draw is so close to a
/// boundary of the cumulative distribution that rounding decides.
fn assert_same(
    decoder: &Decoder,
    request: &Request,
    a: &Completion,
    b: &Completion,
    excused: &mut Excused,
) {
    let n = a
        .tokens
        .iter()
        .zip(&b.tokens)
        .take_while(|(x, y)| x == y)
        .count();
    for i in 0..n {
        assert!(
            (a.logps[i] - b.logps[i]).abs() < LOGP_TOLERANCE,
            "{} {}",
            a.logps[i],
            b.logps[i]
        );
    }
    if n == a.tokens.len() && n == b.tokens.len() {
        assert_eq!(a.stop, b.stop);
        return;
    }
    let ids: Vec<i64> = (request
        .prompt
        .iter()
        .chain(&request.guidance)
        .chain(&a.tokens[..n]))
    .map(|&id| i64::from(id))
    .collect();
    let ids = Tensor::from_slice(&ids).unsqueeze(0);
    let logits = decoder.logits_btv(&ids).unwrap().get(0).get(-1);
    let cumulative = logits
        .to_kind(Kind::Double)
        .softmax(-1, Kind::Double)
        .cumsum(0, Kind::Double);
    let cumulative = Vec::<f64>::try_from(cumulative).unwrap();
    let u = request.key.uniform(n);
    let nearest = cumulative.iter().map(|c| (c - u).abs()).fold(1.0, f64::min);
    assert!(
        nearest < 1e-5,
        "position {n}: the draw {u} is {nearest} from a boundary"
    );
    excused.0 += 1;
}

/// In f32 decoding runs in the code for host memory.
#[test]
fn a_rollout_does_not_depend_on_its_company() {
    alone_and_together(Kind::Float);
}

/// In f64 it runs in the code for any device.
#[test]
fn a_rollout_does_not_depend_on_its_company_on_a_device() {
    alone_and_together(Kind::Double);
}

fn alone_and_together(kind: Kind) {
    let decoder = decoder_of(kind);
    let (requests, params) = (requests(), params());
    let mut engine = TorchEngine::new(&decoder);
    let together = engine.generate(&requests, &params).unwrap();
    let lens: Vec<usize> = together.iter().map(|c| c.tokens.len()).collect();
    assert!(
        lens.iter().any(|&n| n <= 4) && lens.iter().any(|&n| n > 20),
        "{lens:?}"
    );
    assert!(together.iter().any(|c| c.stop == Stop::Eos));
    let mut excused = Excused::default();
    let mut same = |other: &[Completion]| {
        assert_eq!(other.len(), requests.len());
        for ((request, a), b) in requests.iter().zip(&together).zip(other) {
            assert_same(&decoder, request, a, b, &mut excused);
        }
    };
    // Alone.
    let alone: Vec<Completion> = (requests.iter())
        .flat_map(|r| engine.generate(std::slice::from_ref(r), &params).unwrap())
        .collect();
    same(&alone);
    // A group in two calls.
    let halves: Vec<Completion> = (requests.chunks(4))
        .flat_map(|half| engine.generate(half, &params).unwrap())
        .collect();
    same(&halves);
    // Few rows at a time, smaller than a group and not: rows leave and waiting ones join.
    for (max_rows, max_prefill_tokens) in [(3, 1), (10, 64), (16, 8192)] {
        let config = EngineConfig {
            max_rows,
            max_prefill_tokens,
            ..EngineConfig::default()
        };
        let mut few = TorchEngine::new(&decoder).with_config(config);
        same(&few.generate(&requests, &params).unwrap());
    }
    // A cache that holds few rows.
    let config = EngineConfig {
        max_cache_bytes: 200_000,
        ..EngineConfig::default()
    };
    same(
        &(TorchEngine::new(&decoder).with_config(config))
            .generate(&requests, &params)
            .unwrap(),
    );
    // 6 × 64 rollouts of some 15 tokens; a draw is within 1e-5 of one of 120 boundaries once in
    // about 400 draws, and rounding decides but a small part of those.
    assert!(excused.0 <= 3, "{} excused", excused.0);
}

/// Two rows at a time, so that there is always something to wait for.
#[test]
fn completions_are_handed_over_when_they_end() {
    for kind in [Kind::Float, Kind::Double] {
        let decoder = decoder_of(kind);
        let (requests, params) = (requests(), params());
        let mut engine = TorchEngine::new(&decoder).with_config(EngineConfig {
            max_rows: 2,
            ..EngineConfig::default()
        });
        let mut handed = Vec::new();
        let mut note = |place: usize, completion: &Completion| {
            handed.push((place, completion.clone()));
        };
        let returned = (engine.generate_each(&requests, &params, &mut note)).unwrap();
        for (place, completion) in &handed {
            assert_eq!(*completion, returned[*place]);
        }
        let order: Vec<usize> = handed.iter().map(|(place, _)| *place).collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|two| two[0] < two[1]), "{order:?}");
        let sampled = returned.iter().filter(|c| !c.tokens.is_empty()).count();
        assert_eq!(order.len(), sampled);
        // Short ones overtake long ones.
        assert_ne!(order, sorted);
        assert_eq!(returned, engine.generate(&requests, &params).unwrap());
    }
}

#[test]
fn reported_log_probs_are_those_of_the_model() {
    let decoder = decoder();
    let requests = requests();
    for temperature in [1.0, 0.7, 0.0] {
        let params = SamplingParams {
            temperature,
            top_k: 30,
            top_p: 0.9,
            ..params()
        };
        let completions = TorchEngine::new(&decoder)
            .generate(&requests, &params)
            .unwrap();
        for (request, completion) in requests.iter().zip(&completions) {
            let context = request.prompt.len() + request.guidance.len();
            let ids: Vec<i64> = (request
                .prompt
                .iter()
                .chain(&request.guidance)
                .chain(&completion.tokens))
            .map(|&id| i64::from(id))
            .collect();
            let ids = Tensor::from_slice(&ids);
            let logits_tv = decoder.logits_btv(&ids.unsqueeze(0)).unwrap().get(0);
            let n = completion.tokens.len() as i64;
            let t = if temperature == 0.0 { 1.0 } else { temperature };
            let logps_tv =
                (logits_tv.narrow(0, context as i64 - 1, n) / t).log_softmax(-1, Kind::Double);
            let next = ids.narrow(0, context as i64, n).unsqueeze(1);
            let logps = Vec::<f64>::try_from(logps_tv.gather(1, &next, false).view(-1)).unwrap();
            for (i, (ours, model)) in completion.logps.iter().zip(&logps).enumerate() {
                assert!(
                    (f64::from(*ours) - model).abs() < 1e-4,
                    "position {i}: {ours} {model}"
                );
            }
            for (logp, kept) in completion.logps.iter().zip(&completion.log_kept) {
                assert!(*kept <= 1e-6 && logp <= kept, "{logp} {kept}");
            }
        }
    }
}

#[test]
fn frequencies_are_those_of_the_filtered_distribution() {
    let decoder = decoder();
    let prompt: Vec<u32> = vec![5, 17, 40];
    let ids: Vec<i64> = prompt.iter().map(|&id| i64::from(id)).collect();
    let logits = decoder
        .logits_btv(&Tensor::from_slice(&ids).unsqueeze(0))
        .unwrap();
    let logits = Vec::<f64>::try_from(logits.get(0).get(-1).to_kind(Kind::Double)).unwrap();
    let base = SamplingParams::default();
    let all = [
        base.clone(),
        SamplingParams {
            temperature: 0.6,
            ..base.clone()
        },
        SamplingParams {
            top_k: 12,
            ..base.clone()
        },
        SamplingParams {
            top_p: 0.7,
            ..base.clone()
        },
        SamplingParams {
            min_p: 0.1,
            ..base.clone()
        },
        SamplingParams {
            repetition_penalty: 1.5,
            ..base.clone()
        },
        SamplingParams {
            temperature: 1.4,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.02,
            repetition_penalty: 1.2,
            ..base
        },
    ];
    let n = 8000u32;
    let requests: Vec<Request> = (0..n)
        .map(|i| Request {
            prompt: prompt.clone(),
            guidance: vec![],
            key: key(i, 0),
            max_new_tokens: 1,
        })
        .collect();
    let config = EngineConfig {
        max_rows: n as usize,
        ..EngineConfig::default()
    };
    let mut engine = TorchEngine::new(&decoder).with_config(config);
    for params in all {
        let expected = filtered(&logits, &prompt, &params);
        let mut counts = vec![0u32; logits.len()];
        for completion in engine.generate(&requests, &params).unwrap() {
            let id = completion.tokens[0] as usize;
            counts[id] += 1;
            let logp = f64::from(completion.logps[0] - completion.log_kept[0]);
            assert!(
                (logp - expected[id].ln()).abs() < 1e-4,
                "{params:?}: {logp}"
            );
        }
        // Pearson's statistic over ids expected at least five times, the others as one.
        let (mut chi, mut bins, mut rest) = (0.0, 0, (0.0, 0.0));
        for (&count, p) in counts.iter().zip(&expected) {
            let (count, mean) = (f64::from(count), p * f64::from(n));
            if mean >= 5.0 {
                chi += (count - mean).powi(2) / mean;
                bins += 1;
            } else {
                rest = (rest.0 + count, rest.1 + mean);
            }
        }
        if rest.1 >= 5.0 {
            chi += (rest.0 - rest.1).powi(2) / rest.1;
            bins += 1;
        } else {
            assert!(
                rest.0 <= rest.1 + 6.0 * rest.1.sqrt() + 1e-9,
                "{params:?}: {rest:?}"
            );
        }
        // Mean bins - 1, variance twice that; four standard deviations above is a chance of about
        // one in ten thousand, and the keys are fixed.
        let df = f64::from(bins - 1);
        assert!(
            chi < df + 4.0 * (2.0 * df).sqrt(),
            "{params:?}: chi² = {chi} on {df}"
        );
        assert!(df > 3.0, "{params:?}: too few ids to say anything");
    }
}

/// The distribution after penalty, temperature, top-k, top-p and min-p, by sorting in f64.
fn filtered(logits: &[f64], seen: &[u32], params: &SamplingParams) -> Vec<f64> {
    let mut logits = logits.to_vec();
    for &id in seen {
        let x = &mut logits[id as usize];
        *x = if *x > 0.0 {
            *x / params.repetition_penalty
        } else {
            *x * params.repetition_penalty
        };
    }
    let best = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut p: Vec<f64> = logits
        .iter()
        .map(|x| ((x - best) / params.temperature).exp())
        .collect();
    let normalise = |p: &mut Vec<f64>| {
        let sum: f64 = p.iter().sum();
        p.iter_mut().for_each(|x| *x /= sum);
    };
    let keep = |p: &mut Vec<f64>, n: usize| {
        let mut order: Vec<usize> = (0..p.len()).collect();
        order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
        order[n..].iter().for_each(|&i| p[i] = 0.0);
    };
    if params.top_k > 0 {
        keep(&mut p, params.top_k);
    }
    normalise(&mut p);
    let mut sorted = p.clone();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let mut below = 0.0;
    let n = (sorted.iter()).take_while(|&&x| {
        let keeps = below < params.top_p;
        below += x;
        keeps
    });
    let n = n.count();
    keep(&mut p, n);
    let best = sorted[0];
    p.iter_mut()
        .filter(|x| **x < params.min_p * best)
        .for_each(|x| *x = 0.0);
    normalise(&mut p);
    p
}

#[test]
fn an_update_of_the_parameters_is_seen() {
    tch::set_num_threads(1);
    let config = DecoderConfig {
        initializer_range: 0.2,
        ..DecoderConfig::tiny_qwen3(50, 32, 1, 2, 1)
    };
    let parameters = init_parameters(&config, 5, Kind::Float, Device::Cpu).unwrap();
    let mut engine = TorchEngine::new(&Decoder::new(&config, &parameters).unwrap());
    let request = Request {
        prompt: vec![1, 2],
        guidance: vec![],
        key: key(0, 0),
        max_new_tokens: 12,
    };
    let mut greedy = || {
        let out = engine
            .generate(std::slice::from_ref(&request), &SamplingParams::greedy())
            .unwrap();
        out[0].tokens.clone()
    };
    let before = greedy();
    let other = init_parameters(&config, 6, Kind::Float, Device::Cpu).unwrap();
    tch::no_grad(|| parameters.flat().shallow_clone().copy_(other.flat()));
    let after = greedy();
    let mut fresh = TorchEngine::new(&Decoder::new(&config, &other).unwrap());
    let expected = fresh
        .generate(std::slice::from_ref(&request), &SamplingParams::greedy())
        .unwrap();
    assert_ne!(before, after);
    assert_eq!(after, expected[0].tokens);
}

#[test]
fn stop_texts_end_a_completion_where_they_are_complete() {
    let tokenizer = Arc::new(
        HfTokenizer::train(
            ["ab cd"],
            &TokenizerConfig {
                vocab_size: 257,
                ..TokenizerConfig::default()
            },
        )
        .unwrap(),
    );
    tch::set_num_threads(1);
    let config = DecoderConfig {
        initializer_range: 0.2,
        ..DecoderConfig::tiny_qwen3(257, 32, 1, 2, 1)
    };
    let parameters = init_parameters(&config, 5, Kind::Float, Device::Cpu).unwrap();
    let decoder = Decoder::new(&config, &parameters).unwrap();
    let request = Request {
        prompt: vec![1, 2],
        guidance: vec![],
        key: key(0, 0),
        max_new_tokens: 400,
    };
    let mut engine = TorchEngine::new(&decoder);
    let free = engine
        .generate(std::slice::from_ref(&request), &SamplingParams::default())
        .unwrap();
    let text = tokenizer.decode(&free[0].tokens).unwrap();
    // Two ASCII characters in a row that first occur together well inside the completion.
    let stop = (text.as_bytes().windows(2).skip(20))
        .find(|w| w.is_ascii() && text.find(std::str::from_utf8(w).unwrap()) > Some(20))
        .map(|w| String::from_utf8(w.to_vec()).unwrap())
        .unwrap();
    let params = SamplingParams {
        stop: vec!["never occurs, surely".into(), stop.clone()],
        ..SamplingParams::default()
    };
    let err = engine
        .generate(std::slice::from_ref(&request), &params)
        .unwrap_err();
    assert_eq!(
        err.to_string(),
        "stop: stop texts need a tokenizer: build the engine with `with_tokenizer`"
    );
    let mut engine = TorchEngine::new(&decoder).with_tokenizer(tokenizer.clone());
    let stopped = engine
        .generate(std::slice::from_ref(&request), &params)
        .unwrap();
    let n = stopped[0].tokens.len();
    assert_eq!(stopped[0].stop, Stop::Eos);
    assert_eq!(stopped[0].tokens, free[0].tokens[..n]);
    assert!(
        tokenizer
            .decode(&stopped[0].tokens)
            .unwrap()
            .ends_with(&stop)
    );
    assert!(
        !tokenizer
            .decode(&stopped[0].tokens[..n - 1])
            .unwrap()
            .contains(&stop)
    );
}

#[test]
fn requests_that_cannot_be_served_are_refused() {
    let decoder = decoder();
    let mut engine = TorchEngine::new(&decoder);
    let request = |prompt: &[u32], n| Request {
        prompt: prompt.to_vec(),
        guidance: vec![],
        key: key(0, 0),
        max_new_tokens: n,
    };
    let mut error = |r: Request| {
        engine
            .generate(&[request(&[1], 1), r], &params())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error(request(&[], 1)),
        "requests: request 1 has an empty prompt"
    );
    assert_eq!(
        error(request(&[1, 120], 1)),
        "requests: request 1 holds id 120, the model has 120"
    );
    let none = engine.generate(&[request(&[1], 0)], &params()).unwrap();
    assert_eq!((none[0].tokens.len(), none[0].stop), (0, Stop::Length));
    assert!(engine.generate(&[], &params()).unwrap().is_empty());
}

#[test]
fn weights_that_are_not_numbers_stop_the_engine() {
    tch::set_num_threads(1);
    let config = DecoderConfig::tiny_qwen3(50, 32, 1, 2, 1);
    let parameters = init_parameters(&config, 5, Kind::Float, Device::Cpu).unwrap();
    let mut engine = TorchEngine::new(&Decoder::new(&config, &parameters).unwrap());
    let norm = parameters.get("model.norm.weight").unwrap();
    let _ = tch::no_grad(|| norm.shallow_clone().fill_(f64::NAN));
    let request = Request {
        prompt: vec![1],
        guidance: vec![],
        key: key(0, 0),
        max_new_tokens: 3,
    };
    for params in [
        params(),
        SamplingParams::greedy(),
        SamplingParams {
            top_k: 3,
            ..params()
        },
    ] {
        let err = engine
            .generate(std::slice::from_ref(&request), &params)
            .unwrap_err();
        assert!(matches!(err, Error::NotFinite { .. }), "{err}");
        assert_eq!(
            err.to_string(),
            "the distribution of request 0 at sampled position 0 holds a value that is not finite"
        );
    }
}
