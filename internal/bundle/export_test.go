package bundle

// For the tests: what parses foreign text.
var (
	ParseSources = parseSources
	Grants       = grants
)
