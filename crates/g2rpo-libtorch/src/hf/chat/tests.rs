//! Templates against what they render to.

use serde_json::{Value as Json, json};

use super::*;
use crate::error::{Result, says};

fn render(source: &str, messages: &Json, options: &ChatOptions) -> Result<String> {
    let bos = ("bos_token".to_owned(), "<s>".to_owned());
    let messages = messages.as_array().unwrap();
    ChatTemplate::new(source, [bos])?.render(messages, options)
}

fn text(source: &str, messages: &Json) -> String {
    render(source, messages, &ChatOptions::default()).unwrap()
}

const PLAIN: &str = "{{ bos_token }}
{%- for message in messages %}
    {%- if message.role == 'system' and not loop.first %}
        {{- raise_exception('System message must come first') }}
    {%- endif %}
    {{- '[' + message['role'] + ']' + message.content + '[end]' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '[assistant]' }}{% endif %}
";

fn two() -> Json {
    json!([{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "It is "}])
}

#[test]
fn messages_and_special_tokens_are_printed() {
    assert_eq!(
        text(PLAIN, &two()),
        "<s>[user]2+2?[end][assistant]It is [end]"
    );
    let options = ChatOptions {
        add_generation_prompt: true,
        ..ChatOptions::default()
    };
    let user = json!([{"role": "user", "content": "2+2?"}]);
    let prompt = render(PLAIN, &user, &options).unwrap();
    assert_eq!(prompt, "<s>[user]2+2?[end][assistant]");
    let typed = [Message::new("user", "2+2?")];
    let template = ChatTemplate::new(PLAIN, []).unwrap();
    assert_eq!(
        template.render(&typed, &options).unwrap(),
        "[user]2+2?[end][assistant]"
    );
}

#[test]
fn an_unfinished_message_is_left_open() {
    let options = ChatOptions {
        continue_final_message: true,
        ..ChatOptions::default()
    };
    let open = render(PLAIN, &two(), &options).unwrap();
    assert_eq!(open, "<s>[user]2+2?[end][assistant]It is ");
    // A template that trims takes the blank at the end, too.
    let trims = PLAIN.replace("message.content", "message.content | trim");
    let open = render(&trims, &two(), &options).unwrap();
    assert_eq!(open, "<s>[user]2+2?[end][assistant]It is");

    let drops = "{{ messages[0].content }}";
    let left_out =
        "continue_final_message: the template leaves out the last message, or part of it";
    says(render(drops, &two(), &options), left_out);
    let none = "messages: there is none to continue";
    says(render(PLAIN, &json!([]), &options), none);
    let both = ChatOptions {
        add_generation_prompt: true,
        ..options
    };
    let excluded = "continue_final_message: excludes add_generation_prompt…";
    says(render(PLAIN, &two(), &both), excluded);
}

#[test]
fn python_methods_slices_and_namespaces_work() {
    let source = "{%- set ns = namespace(last=-1) %}
{%- for message in messages[::-1] %}
    {%- if ns.last < 0 and message.role == 'user' and message.content is string and not(message.content.startswith('<r>')) %}
        {%- set ns.last = (messages|length - 1) - loop.index0 %}
    {%- endif %}
{%- endfor %}
{{- ns.last }}{{ '</think>' in messages[1].content }}
{{- messages[1].content.split('</think>')[-1].lstrip('\\n') }}|{{ messages[1].content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].strip('\\n') }}
{%- for key, value in messages[0] | items %} {{ key }}={{ value }}{% if loop.index0 == 1 %}{% break %}{% endif %}{% endfor %}
{{- messages[0].name is defined }}{{ none }}";
    let messages = json!([
        {"role": "user", "content": "<x>"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes"}
    ]);
    assert_eq!(
        text(source, &messages),
        "0Trueyes|hm content=<x> role=userFalseNone"
    );
}

#[test]
fn tools_are_json_as_python_writes_it() {
    let options = ChatOptions {
        tools: serde_json::from_str(
            r#"[{"name": "f<>&'", "args": {"z": [1, 2.5, null, true], "é": {}}, "e": []}]"#,
        )
        .ok(),
        ..ChatOptions::default()
    };
    let compact = render("{{ tools[0] | tojson }}", &json!([]), &options).unwrap();
    assert_eq!(
        compact,
        r#"{"name": "f<>&'", "args": {"z": [1, 2.5, null, true], "é": {}}, "e": []}"#
    );
    let wide = render(
        "{{ tools[0].args | tojson(indent=2) }}",
        &json!([]),
        &options,
    )
    .unwrap();
    assert_eq!(
        wide,
        "{\n  \"z\": [\n    1,\n    2.5,\n    null,\n    true\n  ],\n  \"é\": {}\n}"
    );
}

#[test]
fn generation_tags_print_nothing_and_keep_their_scope() {
    let source = "{% set x = 1 %}a\n    {%- generation -%}  {% set x = 2 %} b{{ x }} {%- endgeneration %}\nc{{ x }}";
    assert_eq!(text(source, &json!([])), "a b2c1");
}

#[test]
fn variables_and_reasoning_reach_the_template() {
    let source = "{{ enable_thinking is defined and enable_thinking is false }} {{ messages[0].reasoning_content }} {{ messages[0].thinking }}";
    let mut options = ChatOptions::default();
    options
        .variables
        .insert("enable_thinking".into(), json!(false));
    let messages = json!([{"role": "assistant", "content": "", "reasoning": "why"}]);
    assert_eq!(render(source, &messages, &options).unwrap(), "True why why");
}

#[test]
fn what_a_template_raises_arrives() {
    let late = json!([{"role": "user", "content": ""}, {"role": "system", "content": ""}]);
    let raised = "chat template: System message must come first (line 4)";
    says(render(PLAIN, &late, &ChatOptions::default()), raised);
    let malformed = ChatTemplate::new("{% for %}", []);
    says(malformed, "chat template: …(line 1)");
}

#[test]
fn the_template_of_a_folder_is_found_in_either_place() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"bos_token": {"content": "<b>"}, "chat_template": "{{ bos_token }}1"});
    let render = |config: &Json| {
        let template = ChatTemplate::from_dir(dir.path(), config).unwrap();
        template.map(|t| t.render::<Message>(&[], &ChatOptions::default()).unwrap())
    };
    assert_eq!(render(&json!({})), None);
    assert_eq!(render(&config).as_deref(), Some("<b>1"));
    let several = json!({"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]});
    assert_eq!(render(&several).as_deref(), Some("d"));
    std::fs::write(dir.path().join("chat_template.jinja"), "{{ bos_token }}2").unwrap();
    assert_eq!(render(&config).as_deref(), Some("<b>2"));
}

/// `testdata/libtorch/templates.json`, written by transformers (`make_templates.py`).
#[test]
fn functions_are_those_of_python() {
    let text = include_str!("../../../../../testdata/libtorch/templates.json");
    // Fields in the order that the file has them in.
    let file: OrderedJson = serde_json::from_str(text).unwrap();
    let x = OrderedJson(file.0.get_attr("x").unwrap());
    let messages = file.0.get_attr("messages").unwrap();
    let messages: Vec<OrderedJson> = (messages.try_iter().unwrap()).map(OrderedJson).collect();
    let file: Json = serde_json::from_str(text).unwrap();
    for case in file["cases"].as_array().unwrap() {
        let source = case["template"].as_str().unwrap();
        // Jinja for Rust sees `x` as part of the template, so that its fields keep their order.
        let options = ChatOptions {
            tools: Some(x.clone()),
            ..ChatOptions::default()
        };
        let source = format!("{{% set x = tools %}}{source}");
        let got = ChatTemplate::new(&source, []).and_then(|t| t.render(&messages, &options));
        let got = got.map_err(|error| error.to_string());
        match case["text"].as_str() {
            Some(text) => assert_eq!(got.as_deref(), Ok(text), "{source}"),
            None => assert!(got.is_err(), "{source} gave {got:?}"),
        }
    }
}

#[test]
fn what_is_undefined_is_named() {
    let source = "a\n{% if tools.missing.field %}x{% endif %}";
    let rendered = render(source, &json!([]), &ChatOptions::default());
    says(rendered, "…`{% if tools.missing.field %}x{% endif %}`…");
}

#[test]
fn named_templates_need_a_default() {
    let dir = tempfile::tempdir().unwrap();
    let named = json!({"chat_template": [
        {"name": "rag", "template": "r"}, {"name": "tool_use", "template": "t"},
    ]});
    let expected = "…templates named rag, tool_use, and none named default…";
    says(ChatTemplate::from_dir(dir.path(), &named), expected);
}
