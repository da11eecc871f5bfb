//! What watches the host: the dashboards and rules of the repository, read as they are.
//!
//! What an expression says is `query`'s business.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{query::Query, repository};

/// A file of `dashboards/`.
#[derive(Deserialize)]
pub struct Dashboard {
    /// The name of its file, without the ending.
    #[serde(skip)]
    pub name: String,
    pub uid: String,
    pub title: String,
    pub templating: List<Variable>,
    pub annotations: List<Annotation>,
    pub panels: Vec<Panel>,
}

/// A list as Grafana wraps some of them.
#[derive(Deserialize)]
pub struct List<T> {
    pub list: Vec<T>,
}

/// What a reader may choose.
#[derive(Deserialize)]
pub struct Variable {
    pub name: String,
    pub hide: u8,
    /// What kind of data source, or an object with the query for its values.
    query: Value,
}

/// What is drawn across the panels.
#[derive(Deserialize)]
pub struct Annotation {
    pub name: String,
    pub target: Target,
}

/// A panel, or the title of a row of them.
#[derive(Deserialize)]
pub struct Panel {
    pub id: u32,
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    #[serde(default)]
    pub description: String,
    #[serde(rename = "gridPos")]
    pub place: Place,
    #[serde(default, rename = "fieldConfig")]
    fields: Fields,
    #[serde(default)]
    pub targets: Vec<Target>,
}

/// Where a panel lies in the grid.
#[derive(Debug, Deserialize)]
pub struct Place {
    pub x: u32,
    pub y: u32,
    pub w: u32,
    pub h: u32,
}

#[derive(Default, Deserialize)]
struct Fields {
    defaults: FieldDefaults,
}

#[derive(Default, Deserialize)]
struct FieldDefaults {
    unit: String,
}

/// What a panel asks.
#[derive(Deserialize)]
pub struct Target {
    #[serde(rename = "refId")]
    id: String,
    expr: String,
}

/// A rule of `prometheus/rules/`.
#[derive(Deserialize)]
pub struct Rule {
    pub alert: Option<String>,
    pub record: Option<String>,
    expr: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<RuleGroup>,
}

#[derive(Deserialize)]
struct RuleGroup {
    rules: Vec<Rule>,
}

/// An expression and where it stands.
pub struct Expression {
    pub place: String,
    pub text: String,
    pub query: Query,
}

impl Expression {
    fn new(place: String, text: &str) -> Self {
        let query = Query::parse(text);
        let text = text.to_owned();
        Self { place, text, query }
    }
}

impl Dashboard {
    /// The panels that show something, without the titles of rows.
    pub fn charts(&self) -> impl Iterator<Item = &Panel> {
        self.panels.iter().filter(|panel| panel.kind != "row")
    }

    /// What its panels ask.
    pub fn expressions(&self) -> Vec<Expression> {
        let targets = self.charts().flat_map(|panel| {
            let targets = panel.targets.iter();
            targets.map(|target| (format!("{} / {}", panel.title, target.id), &target.expr))
        });
        targets
            .map(|(place, text)| self.expression(&place, text))
            .collect()
    }

    /// What is asked for its annotations and for the values of its variables.
    pub fn side_expressions(&self) -> Vec<Expression> {
        let annotations = self.annotations.list.iter();
        let annotations =
            annotations.map(|annotation| (&annotation.name, annotation.target.expr.as_str()));
        let variables = self.templating.list.iter().filter_map(|variable| {
            let query = variable.query["query"].as_str()?;
            let asked = query
                .strip_prefix("label_values(")
                .unwrap()
                .rsplit_once(',');
            Some((&variable.name, asked.unwrap().0))
        });
        let all = annotations.chain(variables);
        all.map(|(name, text)| self.expression(name, text))
            .collect()
    }

    /// Whether a panel asks by this variable.
    pub fn uses(&self, variable: &Variable) -> bool {
        let name = format!("${}", variable.name);
        let mut targets = self.charts().flat_map(|panel| &panel.targets);
        // Every panel names its data source by the variable.
        variable.name == "datasource" || targets.any(|target| target.expr.contains(&name))
    }

    fn expression(&self, place: &str, text: &str) -> Expression {
        Expression::new(format!("{} / {place}", self.title), text)
    }
}

impl Panel {
    /// The unit of its values.
    pub fn unit(&self) -> &str {
        &self.fields.defaults.unit
    }
}

impl Rule {
    /// What it is called, alert or recording.
    pub fn name(&self) -> &str {
        self.alert.as_ref().or(self.record.as_ref()).unwrap()
    }

    /// What it asks.
    pub fn expression(&self) -> Expression {
        Expression::new(format!("rule {}", self.name()), &self.expr)
    }
}

/// Every dashboard.
pub fn dashboards() -> Vec<Dashboard> {
    read("dashboards", "json", |text| serde_json::from_str(text))
        .map(|(name, dashboard)| Dashboard { name, ..dashboard })
        .collect()
}

/// Every rule.
pub fn rules() -> Vec<Rule> {
    read("prometheus/rules", "yml", |text| {
        serde_saphyr::from_str(text)
    })
    .flat_map(|(_, file): (_, RuleFile)| file.groups)
    .flat_map(|group| group.rules)
    .collect()
}

/// Every file of a folder that ends so, by its name without the ending.
fn read<T: DeserializeOwned, E: std::fmt::Display>(
    folder: &str,
    ending: &str,
    parse: fn(&str) -> Result<T, E>,
) -> impl Iterator<Item = (String, T)> {
    let entries = fs::read_dir(repository().join(folder)).unwrap();
    let files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == ending))
        .collect();
    assert!(!files.is_empty(), "{folder} has no .{ending}");
    files.into_iter().map(move |path| {
        let text = fs::read_to_string(&path).unwrap();
        let content = parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.file_stem().unwrap().to_str().unwrap();
        (name.to_owned(), content)
    })
}
