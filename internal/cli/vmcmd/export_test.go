package vmcmd

import "time"

// Presses reports of each Ctrl-C, at a time after the first, whether it is enough.
func Presses(at ...time.Duration) (enough []bool) {
	var p presses
	for _, d := range at {
		enough = append(enough, p.add(time.Unix(0, 0).Add(d)))
	}
	return enough
}
