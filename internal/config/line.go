package config

import (
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// lineOf returns the line of a key, such as "defaults.cpus", in a text that has it.
func lineOf(text []byte, key string) int {
	var p unstable.Parser
	p.Reset(text)
	table, line := "", 1
	for p.NextExpression() {
		e := p.Expression()
		var words []string
		for k := e.Key(); k.Next(); {
			words = append(words, string(k.Node().Data))
			line = p.Shape(k.Node().Raw).Start.Line
		}
		name := strings.Join(words, ".")
		switch {
		case e.Kind == unstable.Table:
			table = name + "."
		case table+name == key:
			return line
		case e.Kind == unstable.KeyValue && strings.HasPrefix(key, table+name+"."):
			return line // an inline table
		}
	}
	return line
}
