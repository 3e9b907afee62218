package handler

// Inner parts, for tests in the external package.
var UntilEnding = (*Handler).untilEnding
