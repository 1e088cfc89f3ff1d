package adopt

import (
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strings"

	"postraft/dict"
)

// raftNames names the raft tables for tables of Postfix: by the file alone where that is enough to tell them apart,
// else with its directory, with its whole path, or with the type. So hosts with equal tables come to equal names.
func raftNames(tables []dict.Name, prefix string) map[dict.Name]string {
	level := map[dict.Name]int{}
	for {
		takers := map[string][]dict.Name{}
		for _, t := range tables {
			name := raftName(t, prefix, level[t])
			takers[name] = append(takers[name], t)
		}
		clash := false
		for _, same := range takers {
			if len(same) > 1 {
				clash = true
				for _, t := range same {
					level[t]++
				}
			}
		}
		if !clash {
			break
		}
	}
	names := map[dict.Name]string{}
	for _, t := range tables {
		names[t] = raftName(t, prefix, level[t])
	}
	return names
}

// raftName is the name of a table, the longer the higher the level. From the last one on no two tables have the same.
func raftName(t dict.Name, prefix string, level int) string {
	path := strings.Trim(filepath.Clean(t.Map), "/")
	text := filepath.Base(path)
	switch {
	case level == 1:
		text = filepath.Join(filepath.Base(filepath.Dir(path)), text)
	case level == 2:
		text = path
	case level >= 3:
		text = path + "." + t.Type
	}
	name := strings.Map(func(r rune) rune {
		if r < 0x80 && dict.CheckTableName(string(r)) == nil {
			return r
		}
		return '_'
	}, text)
	if level >= 4 || len(prefix)+len(name) > dict.MaxNameLen {
		sum := fmt.Sprintf(".%08x", crc32.ChecksumIEEE([]byte(t.String())))
		name = name[:min(len(name), max(0, dict.MaxNameLen-len(prefix)-len(sum)))] + sum
	}
	return prefix + name
}
