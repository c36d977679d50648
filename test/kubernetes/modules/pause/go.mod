module culvert.test/pause

go 1.26.0
