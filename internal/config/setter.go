package config

import (
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"banger"
)

// A setter checks one value after the other and keeps the first error; nil
// values leave what is there.
type setter struct {
	prefix func(key string) string // what comes before the key in an error; nil: nothing
	err    error
}

func (s *setter) refuse(key string, err error) {
	if s.err != nil {
		return
	}
	e := banger.AsError(err)
	e.Message = key + ": " + e.Message
	if s.prefix != nil {
		e.Message = s.prefix(key) + e.Message
	}
	s.err = e
}

func invalid(format string, a ...any) *banger.Error {
	return banger.Errorf(banger.Invalid, format, a...)
}

func (s *setter) dir(key string, v *string, to *[]string) {
	switch {
	case v == nil:
	case !filepath.IsAbs(*v):
		s.refuse(key, invalid("%q is not an absolute path", *v).WithRemedy("write the whole path, from /"))
	default:
		*to = append(*to, filepath.Clean(*v))
	}
}

func (s *setter) file(key string, v *string, to *string) {
	var one []string
	if s.dir(key, v, &one); len(one) > 0 {
		*to = one[0]
	}
}

func (s *setter) word(key string, v *string, to *string) {
	switch {
	case v == nil:
	case *v == "":
		s.refuse(key, invalid("it is empty").WithRemedy("leave it out for the default"))
	default:
		*to = *v
	}
}

func (s *setter) oneOf(key string, v *string, words []string, to *string) {
	switch {
	case v == nil:
	case !slices.Contains(words, *v):
		s.refuse(key, invalid("%q is not one of %s", *v, strings.Join(words, ", ")).WithRemedy("leave it out for %s", words[0]))
	default:
		*to = *v
	}
}

// loopback reads an address and port of the loopback; "" is none.
func (s *setter) loopback(key string, v *string, to *netip.AddrPort) {
	if v == nil {
		return
	}
	if *v == "" {
		*to = netip.AddrPort{}
		return
	}
	a, err := netip.ParseAddrPort(*v)
	if err != nil || !a.Addr().Is4() || !a.Addr().IsLoopback() {
		s.refuse(key, invalid("%q is no address and port of the loopback", *v).WithRemedy("write one like 127.0.0.1:42069; \"\" switches it off"))
		return
	}
	*to = a
}

func (s *setter) level(key string, v *string, to *slog.Level) {
	if v == nil {
		return
	}
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	l, ok := levels[strings.ToLower(*v)]
	if !ok {
		s.refuse(key, invalid("no log level %q", *v).WithRemedy("use debug, info, warn or error"))
		return
	}
	*to = l
}

func (s *setter) count(key string, v *int, to *int) {
	switch {
	case v == nil:
	case *v <= 0:
		s.refuse(key, invalid("it must be at least 1, not %d", *v).WithRemedy("leave it out for the default"))
	default:
		*to = *v
	}
}

func (s *setter) size(key string, v *string, to *int64) {
	if v == nil {
		return
	}
	n, err := banger.ParseSize(*v)
	if err == nil && n == 0 {
		err = invalid("it must be more than 0").WithRemedy("leave it out for the default")
	}
	if err != nil {
		s.refuse(key, err)
		return
	}
	*to = n
}

// sizeOrNone reads a size, or the word none, or 0, which means the same.
func (s *setter) sizeOrNone(key string, v *string, to *int64) {
	if v != nil && (*v == "none" || *v == "0") {
		*to = 0
		return
	}
	s.size(key, v, to)
}

func (s *setter) network(key string, v *string, to *banger.NetworkMode) {
	if v == nil {
		return
	}
	modes := []banger.NetworkMode{banger.NetworkAuto, banger.NetworkUser, banger.NetworkRouted}
	if !slices.Contains(modes, banger.NetworkMode(*v)) {
		s.refuse(key, invalid("no network mode %q", *v).WithRemedy("use auto, user or routed"))
		return
	}
	*to = banger.NetworkMode(*v)
}
