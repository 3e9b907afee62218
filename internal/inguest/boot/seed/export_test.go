package seed

// Marker is the attribute that says that a file system was filled.
const Marker = marker

// FillAt is Fill that calls at before each change.
func FillAt(dir, home string, at func(change string)) error { return filler{at}.fill(dir, home) }
