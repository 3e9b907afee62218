package guest

import (
	"strconv"
	"strings"
)

// maxForeign bounds what an error repeats of a guest's words, bytes.
const maxForeign = 512

// A foreignError is an error whose text may hold a guest's words, as SSH's
// disconnect and refusal messages do: they reach terminals and logs, so they
// are cut and their control characters are escaped.
type foreignError struct{ err error }

func (e foreignError) Error() string {
	s := e.err.Error()
	if len(s) > maxForeign {
		s = s[:maxForeign] + "…"
	}
	var b strings.Builder
	for _, r := range s {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

func (e foreignError) Unwrap() error { return e.err }

// foreign marks err, unless it is nil.
func foreign(err error) error {
	if err == nil {
		return nil
	}
	return foreignError{err}
}
