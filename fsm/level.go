package fsm

import "postraft/dict"

// Level says what commands this program can carry out: those of its level and of all lower ones. A node that meets
// a command above its level in the log ends, so a leader takes none that a server of its cluster cannot carry out.
//
//	1  tables of fixed keys (hash)
//	2  tables of other types; conditional deletes
//	3  settings of tables, expiry; origin of changes; loads of what has changed
const Level = 3

// Levels from which on commands may have an Origin, and a StageCommit a StageDelta.
const (
	OriginLevel = 3
	DeltaLevel  = 3
)

// CommandLevel returns the lowest level that can carry out an encoded command, apart from its Origin, which can be
// taken away (WithoutOrigin). What cannot be read is above Level.
func CommandLevel(command []byte) int {
	for num := range numbers(command) {
		switch {
		case num < 3, num == originNode, num == originWay:
		case num != 4 && num != 6 && num != 8 && num <= 10:
			return 1
		default:
			return decodedLevel(command)
		}
	}
	return Level + 1 // without a body
}

func decodedLevel(command []byte) int {
	c, err := decodeCommand(command)
	switch {
	case err != nil:
		return Level + 1
	case c.Expire != nil:
		// It is about a table with settings: whoever has that has read a command of level 3, so that nobody needs to
		// be asked. Else one server that is away would keep all entries where they are.
		return 1
	case c.Set != nil, c.Create != nil && c.Create.Settings != (dict.Settings{}), c.Begin != nil && c.Begin.Settings != (dict.Settings{}):
		return 3
	case c.DeleteIf != nil, c.Create != nil && c.Create.Type != dict.TypeHash, c.Begin != nil && c.Begin.Type != dict.TypeHash:
		return 2
	case c.Commit != nil && c.Commit.Delta != nil:
		return 3
	}
	return 1
}
