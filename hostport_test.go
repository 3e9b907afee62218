package banger_test

import (
	"testing"

	"banger"
)

func TestParseHostPort(t *testing.T) {
	for in, want := range map[string]string{
		"5432": "5432", "22/tcp": "22", "53/udp": "53/udp", "65535": "65535",
		"": "", "0": "", "65536": "", "-1": "", "+1": "", "80/": "", "80/sctp": "", "/udp": "", "80/udp/udp": "", "host:80": "", " 80": "",
	} {
		got, err := banger.ParseHostPort(in)
		if want == "" {
			if e := banger.AsError(err); e == nil || e.Code != banger.Invalid || e.Remedy == "" || got != (banger.HostPort{}) {
				t.Errorf("%q: %v, %v", in, got, err)
			}
			continue
		}
		if err != nil || got.String() != want || got.Valid() != nil {
			t.Errorf("%q: %v, %v; want %s", in, got, err, want)
		}
		if again, err := banger.ParseHostPort(got.String()); err != nil || again != got {
			t.Errorf("%q read again: %v, %v", got, again, err)
		}
	}
}
