//! Whether sources keep out of each other's folders.

use super::Config;

impl Config {
    /// Two configured sources whose recordings may come into one folder: `archive.template` does not tell them apart.
    /// Who has the one's secret can then put files, and a `manifest.json`, beside what is the other's.
    pub fn sources_in_one_folder(&self) -> Option<(String, String)> {
        let holds = |variable| self.archive.template.contains(variable);
        if holds("{source}") {
            return None;
        }
        let tells_providers = holds("{provider}");
        let sources: Vec<_> = self
            .sources
            .iter()
            .map(|(name, source)| (name, source.provider_under(name)))
            .collect();
        for (at, (name, provider)) in sources.iter().enumerate() {
            let mut others = sources[at + 1..].iter();
            let met = others.find(|(_, other)| !tells_providers || other == provider);
            if let Some((other, _)) = met {
                return Some(((*name).clone(), (*other).clone()));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SourceConfig;
    use crate::model::Provider;

    fn met(template: &str, providers: &[Provider]) -> Option<(String, String)> {
        let mut config = Config::default();
        config.archive.template = template.to_owned();
        for (number, provider) in providers.iter().enumerate() {
            let source = SourceConfig {
                provider: Some(*provider),
                ..SourceConfig::default()
            };
            config.sources.insert(format!("s{number}"), source);
        }
        config.sources_in_one_folder()
    }

    // S10
    #[test]
    fn sources_meet_where_the_template_does_not_tell_them_apart() {
        let (hms, daily) = (Provider::Hms, Provider::Daily);
        let by_provider = "{provider}/{recording}/{name}";
        let one = Some(("s0".to_owned(), "s2".to_owned()));
        assert_eq!(met(by_provider, &[hms, daily, hms]), one);
        assert_eq!(met(by_provider, &[hms, daily]), None);
        assert!(met("{recording}/{name}", &[hms, daily]).is_some());
        assert_eq!(met("{source}/{recording}/{name}", &[hms, hms]), None);
        assert_eq!(met("{recording}/{name}", &[]), None);
    }
}
