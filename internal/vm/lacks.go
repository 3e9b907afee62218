package vm

import (
	"fmt"
	"strings"
	"unicode"

	"banger"
)

// maxLack bounds what is kept of a guest's words, characters.
const maxLack = 300

// lack notes what the guest of this run does without, in its own words: a disk
// that it could not mount. "" is nothing. The VM runs on, and is shown with it.
func (s *subject) lack(words string) {
	if words == "" || s.m.lacksOf(s.life) != nil {
		return
	}
	r := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, words))
	if len(r) > maxLack {
		r = append(r[:maxLack], '…')
	}
	p := &banger.Problem{Message: string(r), Remedy: fmt.Sprintf("banger logs %s says more", s.rec.Spec.Name)}
	s.m.mu.Lock()
	s.life.lacks = p
	s.m.changed()
	s.m.mu.Unlock()
	s.tellOf(banger.VMEvent{Type: banger.VMProblem, Problem: p})
	s.m.c.Log.Warn("a guest lacks something", "vm", s.rec.ID, "name", s.rec.Spec.Name, "what", p.Message)
}

// lacksOf is what the guest of a run does without, nil if nothing.
func (m *Manager) lacksOf(l *life) *banger.Problem {
	if l == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return l.lacks
}
