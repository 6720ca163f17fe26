SELECT
    person,
    any(number)
FROM person_vault
WHERE has(splitByChar(',', {persons:String}), person)
GROUP BY person
