package passt

// ParsePID is parsePID, for tests.
var ParsePID = parsePID
