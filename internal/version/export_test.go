package version

// Stamped is stamped.
var Stamped = stamped
