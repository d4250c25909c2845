//! Times generation on a checkpoint, case by case, for `benches/generate.py`, which times
//! transformers on the same checkpoint in turn.
//!
//!     generate MODEL_DIR THREADS [cpu|cuda] [float32|bfloat16] [no-graphs] [no-flash]
//!
//! Every line read from standard input is a case, `kind batch prompt new group`, and is answered
//! with the seconds that it took:
//!
//! - `sample`: `batch` rollouts of `new` tokens behind prompts of `prompt` random ids, `group`
//!   rollouts sharing each prompt; `top-k`, `top-p`, `min-p`, `penalty` and `all-filters` likewise;
//! - `floor`: nothing but the matrix products of that, by libtorch, without experts: of the layers for every
//!   prompt once, and of `new` decoding steps of `batch` rows;
//! - `bandwidth`: what it takes to read, at the speed of a large copy, the weights and the keys and
//!   values of `new` decoding steps.
//!
//! What of a GPU could not be used goes to standard error.

use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

use g2rpo_benches::synchronize;
use g2rpo_libtorch::model::{FeedForward, Mixer, Parallel};
use g2rpo_libtorch::{Decoder, EngineConfig, TorchEngine, load_checkpoint};
use g2rpo_rollout::{Request, RolloutEngine, RolloutKey, SamplingParams};
use tch::{Device, Kind, Tensor};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, dir, threads, options @ ..] = &args[..] else {
        return Err("usage: generate MODEL_DIR THREADS [cpu|cuda] [float32|bfloat16] [no-graphs] [no-flash]".into());
    };
    tch::set_num_threads(threads.parse()?);
    let device = g2rpo_libtorch::device(options.first().map_or("cpu", String::as_str))?;
    let kind = match options.get(1).map(String::as_str) {
        Some("bfloat16") => Kind::BFloat16,
        _ => Kind::Float,
    };
    let checkpoint = load_checkpoint(dir, Some(kind), device)?;
    let decoder = Decoder::new(&checkpoint.config, &checkpoint.parameters)?;
    let mut engine = TorchEngine::new(&decoder).with_config(EngineConfig {
        cuda_graphs: !options.iter().any(|option| option == "no-graphs"),
        flash_attention: !options.iter().any(|option| option == "no-flash"),
        // Enough for the largest case, so that all rows run side by side.
        max_cache_bytes: 64 << 30,
        ..EngineConfig::default()
    });
    let mut told = 0;
    println!("ready");
    for (i, line) in std::io::stdin().lock().lines().enumerate() {
        let line = line?;
        let mut words = line.split_whitespace();
        let kind = words.next().unwrap_or_default().to_owned();
        let numbers = words.map(str::parse).collect::<Result<Vec<usize>, _>>()?;
        let [batch, prompt, new, group] = numbers[..] else {
            return Err(format!("expected `kind batch prompt new group`, got `{line}`").into());
        };
        let case = Case {
            batch,
            prompt,
            new,
            group,
        };
        let seconds = match kind.as_str() {
            "floor" => floor(&decoder, case),
            "bandwidth" => bandwidth(&decoder, case),
            _ => {
                let params = params(&kind).ok_or(format!("no case is named `{kind}`"))?;
                sample(&mut engine, &params, i as u64, case)?
            }
        };
        println!("{seconds}");
        std::io::stdout().flush()?;
        for fallback in &engine.fallbacks()[told..] {
            eprintln!("{fallback}");
        }
        told = engine.fallbacks().len();
    }
    Ok(())
}

/// What one line asks for.
#[derive(Clone, Copy)]
struct Case {
    batch: usize,
    prompt: usize,
    new: usize,
    group: usize,
}

impl Case {
    fn groups(&self) -> usize {
        self.batch.div_ceil(self.group)
    }
}

/// Sampling by name.
fn params(kind: &str) -> Option<SamplingParams> {
    let mut params = SamplingParams::default();
    match kind {
        "sample" => {}
        "top-k" => params.top_k = 20,
        "top-p" => params.top_p = 0.95,
        "min-p" => params.min_p = 0.05,
        "penalty" => params.repetition_penalty = 1.1,
        "all-filters" => {
            params = SamplingParams {
                temperature: 0.6,
                top_k: 20,
                top_p: 0.95,
                min_p: 0.05,
                repetition_penalty: 1.1,
                ..params
            }
        }
        _ => return None,
    }
    Some(params)
}

fn sample(
    engine: &mut TorchEngine,
    params: &SamplingParams,
    run: u64,
    case: Case,
) -> Result<f64, Box<dyn Error>> {
    let vocab = engine.decoder().config().vocab_size as u64;
    // Any ids do; those of a group are equal, those of two groups are not.
    let id = |i: usize, t: u64| ((i / case.group) as u64 * 7919 + t * 104_729 + run) % vocab;
    let requests: Vec<Request> = (0..case.batch)
        .map(|i| Request {
            prompt: (0..case.prompt as u64).map(|t| id(i, t) as u32).collect(),
            guidance: Vec::new(),
            key: RolloutKey {
                run,
                member: i as u32,
                ..RolloutKey::default()
            },
            max_new_tokens: case.new,
        })
        .collect();
    synchronize(engine.decoder().device());
    let start = Instant::now();
    let completions = engine.generate(&requests, params)?;
    let seconds = start.elapsed().as_secs_f64();
    assert!(completions.iter().all(|c| c.tokens.len() == case.new));
    Ok(seconds)
}

/// The matrix products of the prompts' layers and of the decoding steps, each in the form that is the faster of `x · Wᵀ` and
/// `W · xᵀ`, on inputs that are ready.
fn floor(decoder: &Decoder, case: Case) -> f64 {
    let _no_grad = tch::no_grad_guard();
    let device = decoder.device();
    let weights: Vec<Tensor> = (decoder.layers().iter())
        .flat_map(|layer| {
            let one = |parts: &Parallel| {
                let weights: Vec<&Tensor> = parts.parts.iter().map(|l| &*l.weight).collect();
                Tensor::cat(&weights, 0)
            };
            let (inputs, output) = match &layer.mixer {
                Mixer::Attention(attention) => (&attention.qkv, &attention.o_proj),
                Mixer::DeltaNet(net) => (&net.inputs, &net.out_proj),
            };
            let mut weights = vec![one(inputs), output.weight.shallow_clone()];
            // Which experts are read depends on what is drawn: they are left out.
            if let FeedForward::Mlp(mlp) = &layer.mlp {
                weights.push(one(&mlp.gate_up));
                weights.push(mlp.down_proj.weight.shallow_clone());
            }
            weights
        })
        .chain([decoder.lm_head().shallow_clone()])
        .collect();
    type Product = fn(&Tensor, &Tensor, &Tensor);
    let products: [Product; 2] = [
        |w, x, out| drop(x.mm_out(&out.view([x.size()[0], -1]), &w.transpose(0, 1))),
        |w, x, out| drop(w.mm_out(&out.view([-1, x.size()[0]]), &x.transpose(0, 1))),
    ];
    let plan = |weights: &[Tensor], rows: usize| -> Vec<(Product, Tensor, Tensor, Tensor)> {
        let fastest = |w: &Tensor| {
            let x = Tensor::randn([rows as i64, w.size()[1]], (w.kind(), device));
            let out = Tensor::empty([rows as i64 * w.size()[0]], (w.kind(), device));
            let seconds = |product: Product| {
                product(w, &x, &out);
                synchronize(device);
                let start = Instant::now();
                for _ in 0..3 {
                    product(w, &x, &out);
                }
                synchronize(device);
                start.elapsed()
            };
            let first_is_faster = seconds(products[0]) <= seconds(products[1]);
            let best = products[usize::from(!first_is_faster)];
            (best, w.shallow_clone(), x, out)
        };
        weights.iter().map(fastest).collect()
    };
    let steps_plan = plan(&weights, case.batch);
    // The vocabulary is not projected at the positions of a prompt.
    let of_layers = &weights[..weights.len() - 1];
    let prompts_plan = plan(of_layers, case.prompt * case.groups());
    let run = |plan: &[(Product, Tensor, Tensor, Tensor)]| {
        for (product, w, x, out) in plan {
            product(w, x, out);
        }
    };
    let start = Instant::now();
    run(&prompts_plan);
    for _ in 0..case.new {
        run(&steps_plan);
    }
    synchronize(device);
    start.elapsed().as_secs_f64()
}

/// Bytes that decoding must read, by the speed at which the device copies.
fn bandwidth(decoder: &Decoder, case: Case) -> f64 {
    let _no_grad = tch::no_grad_guard();
    let (config, device) = (decoder.config(), decoder.device());
    let bytes = 1_i64 << if device == Device::Cpu { 28 } else { 31 };
    let from = Tensor::zeros([bytes], (Kind::Uint8, device));
    let mut to = from.zeros_like();
    let mut copies = [0; 5].map(|_| {
        synchronize(device);
        let start = Instant::now();
        to.copy_(&from);
        synchronize(device);
        start.elapsed().as_secs_f64()
    });
    copies.sort_by(f64::total_cmp);
    // A copy reads and writes.
    let bytes_per_second = 2.0 * bytes as f64 / copies[2];
    let width = decoder.kind().elt_size_in_bytes();
    let of_layers: usize = (decoder.clone().linears_mut().iter())
        .map(|linear| linear.weight.numel())
        .sum();
    let weights = of_layers + decoder.lm_head().numel();
    let per_position = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim;
    // A prompt once for its group, own positions once per row: (steps - 1) / 2 of them on average.
    let steps = case.new as f64;
    let own = case.batch as f64 * (steps - 1.0) / 2.0;
    let positions = case.prompt as f64 * case.groups() as f64 + own;
    let read = (weights as f64 + positions * per_position as f64) * width as f64;
    steps * read / bytes_per_second
}
