//! Text to ids and back.

use std::path::Path;

use g2rpo_rollout::{self as rollout, Encoding, TokenId, write_atomically};
use serde_json::{Value, json};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use crate::error::{Error, Result, ensure};
use crate::hf::chat::ChatTemplate;
use crate::hf::fields::text_of;
use crate::hf::files::{read_json, write_json};

/// Text to ids and back, as `tokenizer.json` says, with the special tokens and the chat template of
/// `tokenizer_config.json` if there is one.
#[derive(Debug)]
pub struct HfTokenizer {
    inner: tokenizers::Tokenizer,
    /// `tokenizer_config.json`, empty when there was none.
    config: Value,
    chat_template: Option<ChatTemplate>,
}

/// How [`HfTokenizer::train`] makes a vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizerConfig {
    /// Most ids, special tokens and the 256 bytes included. Default 512.
    pub vocab_size: usize,
    /// Pairs that occur less often are not joined. Default 2.
    pub min_frequency: u64,
    /// Ends a text; also used for padding. Default `<|endoftext|>`, as Qwen's.
    pub eos_token: String,
    /// Further special tokens. Default none.
    pub special_tokens: Vec<String>,
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self {
            vocab_size: 512,
            min_frequency: 2,
            eos_token: "<|endoftext|>".into(),
            special_tokens: Vec::new(),
        }
    }
}

/// Where text is cut before pairs are joined: every digit, every line break and every punctuation
/// mark run alone, words with the blank before them. So that a number is its digits, no id spans
/// two lines, and no id spans a word and what follows it.
const PIECES: &str = r"\p{N}|[\r\n]| ?\p{L}+| ?[^\s\p{L}\p{N}]+|[^\S\r\n]+";

impl HfTokenizer {
    /// Reads `tokenizer.json` and, where they are, `tokenizer_config.json` and
    /// `chat_template.jinja` of a checkpoint folder.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::File`] and [`Error::Tokenizer`] for files that are missing or do
    /// not parse, [`Error::Template`] for a chat template that does not parse.
    pub fn from_dir(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let path = dir.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
        let malformed = |e: tokenizers::Error| Error::File {
            path: path.clone(),
            what: format!("not a tokenizer: {e}"),
        };
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(malformed)?;
        // Some files say how their maker cut and padded batches. Texts are not cut here, as
        // transformers does not unless it is asked to.
        inner
            .with_truncation(None)
            .map_err(malformed)?
            .with_padding(None);
        let config_path = dir.join("tokenizer_config.json");
        let config = match config_path.exists() {
            true => read_json(&config_path)?,
            false => json!({}),
        };
        let chat_template = ChatTemplate::from_dir(dir, &config)?;
        Ok(Self {
            inner,
            config,
            chat_template,
        })
    }

    /// Trains byte-level byte-pair encoding on texts. Every digit is an id of its own, and every
    /// text decodes to itself. The same texts give the same tokenizer.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the vocabulary cannot hold the 256 bytes and the special tokens;
    /// [`Error::Tokenizer`] if training fails.
    pub fn train<'t>(
        texts: impl IntoIterator<Item = &'t str>,
        config: &TokenizerConfig,
    ) -> Result<Self> {
        let special: Vec<AddedToken> = std::iter::once(&config.eos_token)
            .chain(&config.special_tokens)
            .map(|token| AddedToken::from(token.as_str(), true))
            .collect();
        let least = 256 + special.len();
        ensure(config.vocab_size >= least, "vocab_size", || {
            let (special, got) = (special.len(), config.vocab_size);
            format!("256 bytes and {special} special tokens need {least} ids, got {got}")
        })?;
        let failed = |e: tokenizers::Error| Error::Tokenizer(format!("training failed: {e}"));
        let split = Split::new(
            SplitPattern::Regex(PIECES.into()),
            SplitDelimiterBehavior::Isolated,
            false,
        )
        .map_err(failed)?;
        let bytes = ByteLevel::new(false, false, false);
        let mut inner = tokenizers::Tokenizer::new(BPE::default());
        inner
            .with_pre_tokenizer(Some(Sequence::new(vec![split.into(), bytes.into()])))
            .with_decoder(Some(bytes))
            .with_post_processor(Some(bytes));
        let mut trainer = TrainerWrapper::BpeTrainer(
            BpeTrainerBuilder::new()
                .vocab_size(config.vocab_size)
                .min_frequency(config.min_frequency)
                .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
                .special_tokens(special)
                .show_progress(false)
                .build(),
        );
        let texts: Vec<&str> = texts.into_iter().collect();
        inner
            .train(&mut trainer, texts.into_iter())
            .map_err(failed)?;
        Ok(Self {
            inner: (*inner).clone().into(),
            config: json!({
                "tokenizer_class": "PreTrainedTokenizerFast",
                "eos_token": config.eos_token,
                "pad_token": config.eos_token,
                "additional_special_tokens": config.special_tokens,
                "clean_up_tokenization_spaces": false,
                "model_max_length": 1_000_000_000u64,
            }),
            chat_template: None,
        })
    }

    /// Ids of a text. No special token is added; those that the text spells are recognised.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>> {
        Ok(self.encode_with_offsets(text)?.ids)
    }

    /// Ids of a text with the special tokens that the tokenizer's post-processor puts around it, as transformers'
    /// `tokenizer(text)` gives them.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn encode_with_special(&self, text: &str) -> Result<Vec<TokenId>> {
        let encoding = self.inner.encode(text, true).map_err(failed)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The special tokens that the post-processor puts before a text, as text: `<bos>` for Gemma, nothing for Qwen.
    /// A chat template spells them itself; before a prompt without one they are to be written.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn opening(&self) -> Result<String> {
        let encoding = self.inner.encode("0", true).map_err(failed)?;
        let before =
            (encoding.get_special_tokens_mask().iter()).take_while(|special| **special == 1);
        Ok(encoding.get_tokens()[..before.count()].concat())
    }

    /// Ids of a text with the bytes that each stands for. Ids that share the bytes of one character
    /// all have the whole character.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn encode_with_offsets(&self, text: &str) -> Result<Encoding> {
        let encoding = self.inner.encode(text, false).map_err(failed)?;
        Ok(Encoding {
            ids: encoding.get_ids().to_vec(),
            offsets: (encoding.get_offsets().iter())
                .map(|&(start, end)| start..end)
                .collect(),
        })
    }

    /// Text of ids, special tokens included. Bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn decode(&self, ids: &[TokenId]) -> Result<String> {
        self.inner.decode(ids, false).map_err(failed)
    }

    /// Text of ids without special tokens.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn decode_without_special(&self, ids: &[TokenId]) -> Result<String> {
        self.inner.decode(ids, true).map_err(failed)
    }

    /// The id of a token, in the vocabulary's spelling.
    pub fn token_to_id(&self, token: &str) -> Option<TokenId> {
        self.inner.token_to_id(token)
    }

    /// Number of ids, special tokens included. A model's embedding may have more rows.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Id of the token that begins a text, if `tokenizer_config.json` names one.
    pub fn bos_token_id(&self) -> Option<TokenId> {
        self.special("bos_token")
    }

    /// Id of the token that ends a text, if `tokenizer_config.json` names one.
    pub fn eos_token_id(&self) -> Option<TokenId> {
        self.special("eos_token")
    }

    /// Id of the token used for padding, if `tokenizer_config.json` names one; it may well be the
    /// one that ends a text.
    pub fn pad_token_id(&self) -> Option<TokenId> {
        self.special("pad_token")
    }

    /// The chat template, if the checkpoint has one.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()
    }

    /// The id of a special token such as `eos_token` in `tokenizer_config.json`.
    fn special(&self, name: &str) -> Option<TokenId> {
        self.token_to_id(text_of(self.config.get(name)?)?)
    }

    /// Writes `tokenizer.json`, `tokenizer_config.json` and, if there is a template,
    /// `chat_template.jinja` into the folder, each atomically. transformers opens them.
    ///
    /// # Errors
    /// [`Error::Io`]; the files that were there before are then still there, whole.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        let text = self.inner.to_string(true).map_err(failed)?;
        let write = |file: &str, text: &str| {
            let path = dir.join(file);
            write_atomically(&path, text.as_bytes()).map_err(Error::io(path))
        };
        write("tokenizer.json", &text)?;
        let mut config = self.config.clone();
        if let Some(template) = &self.chat_template {
            write("chat_template.jinja", template.source())?;
            if let Some(config) = config.as_object_mut() {
                config.remove("chat_template");
            }
        }
        write_json(&dir.join("tokenizer_config.json"), &config)
    }
}

/// Offsets of a character that several ids share are the whole character for each of them, as the
/// tokenizer reports them.
impl rollout::Tokenizer for HfTokenizer {
    fn encode(&self, text: &str) -> rollout::Result<Encoding> {
        self.encode_with_offsets(text)
            .map_err(rollout::Error::tokenizer)
    }

    fn decode(&self, ids: &[TokenId]) -> rollout::Result<String> {
        self.decode_without_special(ids)
            .map_err(rollout::Error::tokenizer)
    }
}

fn failed(error: tokenizers::Error) -> Error {
    Error::Tokenizer(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::says;

    const TEXTS: [&str; 3] = [
        "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nNatalia sold 48+24 = <<48+24=72>>72 clips.\n#### 72",
        "She sold 10 clips.\n#### 10",
        "naïve café — 数学 \t x",
    ];

    fn trained() -> HfTokenizer {
        HfTokenizer::train(TEXTS, &TokenizerConfig::default()).unwrap()
    }

    #[test]
    fn decoding_gives_the_text_back() {
        let tokenizer = trained();
        let others = [
            "",
            " ",
            "\n\n  a\u{1F600}b\r\n",
            "12345678",
            "<|endoftext|>x",
            "e\u{301}",
        ];
        for text in TEXTS.into_iter().chain(others) {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        }
    }

    #[test]
    fn offsets_are_the_bytes_of_each_id() {
        let tokenizer = trained();
        let text = TEXTS[0];
        let encoding = tokenizer.encode_with_offsets(text).unwrap();
        let mut end = 0;
        for (id, range) in encoding.ids.iter().zip(&encoding.offsets) {
            assert_eq!(range.start, end);
            assert_eq!(tokenizer.decode(&[*id]).unwrap(), text[range.clone()]);
            end = range.end;
        }
        assert_eq!(end, text.len());
        // The two ids of ï both cover it.
        let encoding = tokenizer.encode_with_offsets("ï").unwrap();
        assert!(encoding.offsets.iter().all(|o| *o == (0..2)));
    }

    #[test]
    fn digits_and_line_breaks_stand_alone_and_words_are_joined() {
        let tokenizer = trained();
        let pieces: Vec<String> = (tokenizer.encode(" clips in 48\n#### 72").unwrap().iter())
            .map(|&id| tokenizer.decode(&[id]).unwrap())
            .collect();
        assert_eq!(pieces[0], " clips");
        for piece in pieces {
            let lonely = piece
                .chars()
                .filter(|c| c.is_numeric() || *c == '\n')
                .count();
            assert!(lonely == 0 || piece.chars().count() == 1, "{piece:?}");
        }
    }

    #[test]
    fn special_tokens_are_known_and_training_repeats() {
        let (a, b) = (trained(), trained());
        assert_eq!(a.eos_token_id(), a.token_to_id("<|endoftext|>"));
        assert_eq!(a.pad_token_id(), a.eos_token_id());
        assert_eq!(
            a.encode("<|endoftext|>").unwrap(),
            [a.eos_token_id().unwrap()]
        );
        assert_eq!(a.bos_token_id(), None);
        assert_eq!(
            a.inner.to_string(false).unwrap(),
            b.inner.to_string(false).unwrap()
        );
    }

    #[test]
    fn what_is_saved_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let a = trained();
        a.save(dir.path()).unwrap();
        let b = HfTokenizer::from_dir(dir.path()).unwrap();
        assert_eq!(a.encode(TEXTS[0]).unwrap(), b.encode(TEXTS[0]).unwrap());
        assert_eq!(a.eos_token_id(), b.eos_token_id());
    }

    #[test]
    fn mistakes_are_named() {
        let small = TokenizerConfig {
            vocab_size: 100,
            ..TokenizerConfig::default()
        };
        let expected = "vocab_size: 256 bytes and 1 special tokens need 257 ids, got 100";
        says(HfTokenizer::train(TEXTS, &small), expected);
        let dir = tempfile::tempdir().unwrap();
        says(HfTokenizer::from_dir(dir.path()), "…tokenizer.json…");
        std::fs::write(dir.path().join("tokenizer.json"), "{").unwrap();
        let expected = "…tokenizer.json: not a tokenizer: …";
        says(HfTokenizer::from_dir(dir.path()), expected);
    }
}
