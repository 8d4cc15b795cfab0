"""The initial copy: published tables read under the snapshot a slot exported."""
