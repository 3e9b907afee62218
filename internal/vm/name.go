package vm

import "math/rand/v2"

// maxNameTries bounds the search for a made-up name that is free.
const maxNameTries = 50

var adjectives = []string{
	"amber", "bold", "brave", "bright", "brisk", "calm", "clever", "crisp", "daring", "eager", "early", "fair", "fleet", "fond", "gentle",
	"glad", "golden", "grand", "happy", "hardy", "honest", "jolly", "keen", "kind", "lively", "loyal", "lucky", "mellow", "merry", "mild",
	"neat", "nimble", "noble", "placid", "plucky", "proud", "quick", "quiet", "rapid", "ready", "rosy", "sharp", "silent", "smart", "snug",
	"solid", "spry", "steady", "stout", "sunny", "swift", "tidy", "upbeat", "vivid", "warm", "wise", "witty", "zesty",
}

var animals = []string{
	"badger", "beaver", "bison", "bobcat", "condor", "crane", "curlew", "dingo", "dolphin", "eagle", "egret", "falcon", "ferret", "finch",
	"gecko", "gibbon", "goose", "hare", "heron", "ibex", "ibis", "jackal", "kestrel", "koala", "lemur", "lynx", "magpie", "marten", "mole",
	"newt", "ocelot", "okapi", "osprey", "otter", "owl", "panda", "pelican", "pika", "plover", "puffin", "quail", "raven", "robin", "seal",
	"shrew", "skink", "stoat", "stork", "swan", "tapir", "tern", "toad", "vole", "walrus", "weasel", "wombat", "wren", "yak",
}

// madeUpName returns a readable name, such as brave-otter; later tries add a
// third word, so that many VMs do not exhaust them.
func madeUpName(try int) string {
	pick := func(from []string) string { return from[rand.IntN(len(from))] }
	name := pick(adjectives) + "-" + pick(animals)
	if try > 5 {
		name = pick(adjectives) + "-" + name
	}
	return name
}
