//! A PromQL expression, taken apart: as much of the language as dashboards and rules speak, and a panic at what it does not know.
//!
//! Whether an expression is right is Prometheus's to say; a crate that reads all of the language would bring thirty others into the build.

use std::{iter::Peekable, vec};

const AGGREGATIONS: [&str; 12] = [
    "avg",
    "bottomk",
    "count",
    "count_values",
    "group",
    "max",
    "min",
    "quantile",
    "stddev",
    "stdvar",
    "sum",
    "topk",
];

/// An expression of a panel or a rule.
pub struct Query(Expr);

enum Expr {
    Selector {
        name: String,
        matchers: Vec<(String, String)>,
    },
    Number(f64),
    Text,
    /// A function or an aggregation.
    Call {
        name: String,
        arguments: Vec<Expr>,
    },
    Binary {
        operator: String,
        sides: Box<[Expr; 2]>,
    },
}

/// Series that an expression asks for.
#[derive(Clone, Copy)]
pub struct Selector<'a> {
    /// Their name.
    pub name: &'a str,
    /// Which of them: labels and what they are compared with.
    matchers: &'a [(String, String)],
    /// The nearest function around them.
    pub function: Option<&'a str>,
    /// The nearest aggregation around them.
    pub aggregation: Option<&'a str>,
}

impl Selector<'_> {
    /// What the value of a label is compared with.
    pub fn filter(&self, label: &str) -> Option<&str> {
        let matcher = self.matchers.iter().find(|(name, _)| name == label);
        matcher.map(|(_, value)| value.as_str())
    }
}

impl Query {
    /// Takes an expression apart.
    pub fn parse(text: &str) -> Self {
        let mut parser = Parser(tokens(text).into_iter().peekable());
        let expr = parser.binary(1);
        assert_eq!(parser.0.next(), None, "after the end of {text}");
        Self(expr)
    }

    /// Every selector.
    pub fn selectors(&self) -> Vec<Selector<'_>> {
        let mut found = Vec::new();
        let around = Selector {
            name: "",
            matchers: &[],
            function: None,
            aggregation: None,
        };
        self.0.collect(around, &mut found);
        found
    }

    /// How many parts are not a number where nothing happens: divisions by what may be 0, and quantiles of nothing.
    pub fn undefined_in_quiet(&self) -> usize {
        self.0.undefined_in_quiet(false)
    }
}

#[cfg(feature = "services")]
/// What an alert compares with its threshold; none where there is no comparison outside of all parentheses.
pub fn compared(text: &str) -> Option<&str> {
    let (mut depth, mut quoted, mut found) = (0, false, None);
    for (place, character) in text.char_indices() {
        match character {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '<' | '>' if depth == 0 => found = Some(place),
            _ => {}
        }
    }
    found.map(|place| &text[..place])
}

impl Expr {
    fn collect<'a>(&'a self, mut around: Selector<'a>, found: &mut Vec<Selector<'a>>) {
        match self {
            Self::Selector { name, matchers } => {
                (around.name, around.matchers) = (name, matchers);
                found.push(around);
            }
            Self::Call { name, .. } if AGGREGATIONS.contains(&name.as_str()) => {
                around.aggregation = Some(name);
            }
            Self::Call { name, .. } => around.function = Some(name),
            _ => {}
        }
        for part in self.parts() {
            part.collect(around, found);
        }
    }

    /// `filtered`: a comparison drops of this expression what is not a number.
    fn undefined_in_quiet(&self, filtered: bool) -> usize {
        let is_undefined = match self {
            Self::Binary { operator, sides } => operator == "/" && !sides[1].is_above_zero(),
            Self::Call { name, .. } => name == "histogram_quantile" && !filtered,
            _ => false,
        };
        let filters = matches!(self, Self::Binary { operator, .. } if [">", ">="].contains(&operator.as_str()));
        let parts = self.parts().iter();
        let within = parts.map(|part| part.undefined_in_quiet(filters));
        usize::from(is_undefined) + within.sum::<usize>()
    }

    /// Whether it has no value that is 0: a number, or what a comparison lets through.
    fn is_above_zero(&self) -> bool {
        match self {
            Self::Number(number) => *number > 0.0,
            Self::Binary { operator, sides } => {
                operator == ">" && matches!(sides[1], Self::Number(bound) if bound >= 0.0)
            }
            _ => false,
        }
    }

    fn parts(&self) -> &[Self] {
        match self {
            Self::Call { arguments, .. } => arguments,
            Self::Binary { sides, .. } => &**sides,
            Self::Selector { .. } | Self::Number(_) | Self::Text => &[],
        }
    }
}

/// Reads tokens; a range in brackets and a text in quotes are one each.
struct Parser(Peekable<vec::IntoIter<String>>);

impl Parser {
    /// Operators that bind at least as strongly as `floor`, and what stands between them.
    fn binary(&mut self, floor: u8) -> Expr {
        let mut left = self.operand();
        while let Some(strength) = self.0.peek().and_then(|token| strength(token))
            && strength >= floor
        {
            let operator = self.token();
            for word in ["bool", "on", "ignoring", "group_left", "group_right"] {
                if self.skip(word) {
                    self.skip_labels();
                }
            }
            let sides = Box::new([left, self.binary(strength + 1)]);
            left = Expr::Binary { operator, sides };
        }
        left
    }

    fn operand(&mut self) -> Expr {
        let token = self.token();
        let operand = match token.as_str() {
            "(" => {
                let inner = self.binary(1);
                self.expect(")");
                inner
            }
            text if text.starts_with(['"', '\'']) => Expr::Text,
            _ => match token.parse() {
                Ok(number) => Expr::Number(number),
                Err(_) => self.word(token),
            },
        };
        while self.0.next_if(|token| token.starts_with('[')).is_some() || self.skip("offset") {
            // How long the offset is.
            self.0
                .next_if(|token| token.starts_with(|first: char| first.is_ascii_digit()));
        }
        operand
    }

    fn word(&mut self, name: String) -> Expr {
        if AGGREGATIONS.contains(&name.as_str()) && (self.skip("by") || self.skip("without")) {
            self.skip_labels();
        }
        if self.skip("(") {
            let arguments = self.list(")", |parser| parser.binary(1));
            return Expr::Call { name, arguments };
        }
        assert!(name.starts_with(char::is_alphabetic), "{name} is no name");
        let mut matchers = Vec::new();
        if self.skip("{") {
            matchers = self.list("}", |parser| {
                let label = parser.token();
                assert!(["=", "!=", "=~", "!~"].contains(&parser.token().as_str()));
                (label, parser.token().trim_matches('"').to_owned())
            });
        }
        Expr::Selector { name, matchers }
    }

    /// What stands between commas, up to the end.
    fn list<T>(&mut self, end: &str, item: impl Fn(&mut Self) -> T) -> Vec<T> {
        let mut items = Vec::new();
        while !self.skip(end) {
            items.push(item(self));
            self.skip(",");
        }
        items
    }

    fn skip_labels(&mut self) {
        if self.skip("(") {
            self.list(")", Self::token);
        }
    }

    fn skip(&mut self, token: &str) -> bool {
        self.0.next_if(|next| next == token).is_some()
    }

    fn expect(&mut self, token: &str) {
        assert!(self.skip(token), "{token} is missing");
    }

    fn token(&mut self) -> String {
        self.0.next().unwrap()
    }
}

/// How strongly an operator binds.
fn strength(operator: &str) -> Option<u8> {
    match operator {
        "or" => Some(1),
        "and" | "unless" => Some(2),
        "==" | "!=" | "<" | "<=" | ">" | ">=" => Some(3),
        "+" | "-" => Some(4),
        "*" | "/" | "%" => Some(5),
        _ => None,
    }
}

fn tokens(mut text: &str) -> Vec<String> {
    let mut found = Vec::new();
    while let Some(first) = text.trim_start().chars().next() {
        text = text.trim_start();
        let is_in_name = |it: char| it.is_alphanumeric() || "_:.".contains(it);
        let length = match first {
            '"' | '\'' => text[1..].find(first).unwrap() + 2,
            '[' => text.find(']').unwrap() + 1,
            _ if is_in_name(first) => text.find(|it| !is_in_name(it)).unwrap_or(text.len()),
            _ if ["==", "!=", "<=", ">=", "=~", "!~"]
                .iter()
                .any(|it| text.starts_with(it)) =>
            {
                2
            }
            _ => first.len_utf8(),
        };
        let (token, rest) = text.split_at(length);
        found.push(token.to_owned());
        text = rest;
    }
    found
}
