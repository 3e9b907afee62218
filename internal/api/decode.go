package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"banger"
)

func decodeObject(body []byte, v any) error {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		body = []byte("{}")
	}
	if body[0] != '{' { // Go's decoder takes null for any struct
		return banger.Errorf(banger.Invalid, "request is not a JSON object")
	}
	if err := noNulls(body); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return invalid(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return banger.Errorf(banger.Invalid, "request has something after its JSON object")
	}
	return nil
}

// noNulls refuses fields that are null, which Go's decoder takes for "absent".
// What is wrong otherwise, the decoder says better.
func noNulls(body []byte) error {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil {
		return nil
	}
	for name, v := range fields {
		if string(v) == "null" {
			return banger.Errorf(banger.Invalid, "field %q: null is no value", name).WithRemedy("leave the field out for the default")
		}
	}
	return nil
}

// invalid says in a user's words what the decoder found.
func invalid(err error) error {
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		return banger.Errorf(banger.Invalid, "field %q: %s is not %s", typ.Field, typ.Value, kind(typ.Type))
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return banger.Errorf(banger.Invalid, "request is not JSON at byte %d: %w", syntax.Offset, err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return banger.Errorf(banger.Invalid, "request is cut short: %w", err)
	}
	// The decoder has no type for an unknown field, only this text: it is
	// passed on without the package's name, never matched.
	return banger.Errorf(banger.Invalid, "%s", strings.TrimPrefix(err.Error(), "json: "))
}

func kind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int, reflect.Int64:
		return fmt.Sprintf("a whole number of %d bits", t.Bits())
	case reflect.Float64:
		return "a number"
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	}
	return "an object"
}
