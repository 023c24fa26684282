DELETE FROM operation WHERE kind = 'GeneratePlannedContacts';
DROP TABLE contact_generation, planned_contact, inactive_period, plan_exception, plan_entry, contact_plan,
    workday_calendar;
