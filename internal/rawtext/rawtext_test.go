package rawtext_test

import (
	"encoding/json"
	"slices"
	"testing"

	"banger/internal/rawtext"
)

func TestForms(t *testing.T) {
	for text, want := range map[rawtext.String]string{
		"":             `""`,
		"plain":        `"plain"`,
		"ä€":           `"ä€"`,
		"\uFFFD":       `"` + "\uFFFD" + `"`, // meant, not put in the place of something
		"caf\xe9":      `{"base64":"Y2Fm6Q=="}`,
		"\xed\xa0\x80": `{"base64":"7aCA"}`, // half a surrogate pair
	} {
		b, err := json.Marshal(text)
		if err != nil || string(b) != want {
			t.Errorf("%q is %s, want %s (%v)", text, b, want, err)
		}
		var back rawtext.String
		if err := json.Unmarshal(b, &back); err != nil || back != text {
			t.Errorf("%s is %q, want %q (%v)", b, back, text, err)
		}
	}
}

func TestList(t *testing.T) {
	b, err := json.Marshal(rawtext.List{"ls", "caf\xe9"})
	if want := `["ls",{"base64":"Y2Fm6Q=="}]`; err != nil || string(b) != want {
		t.Errorf("%s, want %s (%v)", b, want, err)
	}
	if b, err := json.Marshal(rawtext.List(nil)); err != nil || string(b) != "[]" {
		t.Errorf("nothing is %s (%v)", b, err)
	}
	var l rawtext.List
	if err := json.Unmarshal([]byte(`["a", {"base64": "/w=="} ]`), &l); err != nil || !slices.Equal(l, rawtext.List{"a", "\xff"}) {
		t.Errorf("%q, %v", l, err)
	}
}

func TestRefused(t *testing.T) {
	for _, text := range []string{
		`null`, `1`, `true`, `[]`, `{}`, `{"base64":null}`, `{"base64":"*"}`, `{"base64":"Y2Fm6Q==","x":1}`, `{"text":"a"}`,
	} {
		var s rawtext.String
		if err := json.Unmarshal([]byte(text), &s); err == nil {
			t.Errorf("%s is %q", text, s)
		}
		var l rawtext.List
		if err := json.Unmarshal([]byte("["+text+"]"), &l); err == nil {
			t.Errorf("[%s] is %q", text, l)
		}
	}
}

func FuzzString(f *testing.F) {
	f.Add([]byte(`{"base64":"Y2Fm6Q=="}`))
	f.Add([]byte(`"plain"`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var s, back rawtext.String
		if json.Unmarshal(text, &s) != nil {
			return
		}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &back); err != nil || back != s {
			t.Errorf("%q became %q (%v)", s, back, err)
		}
	})
}
