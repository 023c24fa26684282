ALTER TABLE audience DROP COLUMN included;
DROP TABLE selection_tick;
DROP TRIGGER keep_version ON selection;
DROP FUNCTION anklang_selection_saved();
DROP TABLE selection_version;
DROP TRIGGER ship_presets ON tenant;
DROP FUNCTION anklang_tenant_added();
DROP FUNCTION anklang_ship_presets(uuid);
DROP TABLE selection_preset;
