// Package rawtext is text of any bytes in JSON, as the words of a command are:
// JSON has Unicode alone, and Go's encoder puts U+FFFD in the place of every
// other byte without a word. Text that is UTF-8 is an ordinary JSON string, and
// only other text is an object, {"base64": "Y2Fm6Q=="}.
package rawtext

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"unicode/utf8"
)

// A String is text of any bytes.
type String string

type encoded struct {
	Base64 []byte `json:"base64"`
}

func (s String) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(s)) {
		return json.Marshal(string(s))
	}
	return json.Marshal(encoded{[]byte(s)})
}

// UnmarshalJSON takes both forms. null is none: it would pass for "".
func (s *String) UnmarshalJSON(b []byte) error {
	b = bytes.TrimSpace(b)
	if len(b) == 0 || b[0] != '{' {
		var text *string
		if err := json.Unmarshal(b, &text); err != nil {
			return err
		}
		if text == nil {
			return &json.UnmarshalTypeError{Value: "null", Type: reflect.TypeFor[string]()}
		}
		*s = String(*text)
		return nil
	}
	var e encoded
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return fmt.Errorf("text as base64: %w", err)
	}
	if e.Base64 == nil {
		return errors.New(`text as an object has the bytes in "base64"`)
	}
	*s = String(e.Base64)
	return nil
}

// A List is a list of texts; a nil one is [] in JSON.
type List []string

func (l List) MarshalJSON() ([]byte, error) {
	all := make([]String, len(l))
	for i, s := range l {
		all[i] = String(s)
	}
	return json.Marshal(all)
}

func (l *List) UnmarshalJSON(b []byte) error {
	var all []String
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	*l = nil
	for _, s := range all {
		*l = append(*l, string(s))
	}
	return nil
}
